"""Areas to an MQTT broker, through a fake of paho's client whose rules are those of MQTT 3.1.1 and of paho 2."""

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.sinks import SINKS
from edgeprune.runtime.sinks.mqtt import MOST_WAITING, PASSWORD_VARIABLE, Mqtt, check_mqtt, read_broker
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import row
from tests.runtime.sinks.found import Found
from tests.runtime.tasks.drawn import CAR, answer, mask, result, task


class Message:
    """paho's MQTTMessageInfo: `rc` over 0 is a failure, and asking then raises."""

    def __init__(self, rc: int = 0):
        self.rc, self.sent = rc, False

    def is_published(self) -> bool:
        if self.rc:
            raise RuntimeError(f"Message publish failed: {self.rc}")
        return self.sent

    def wait_for_publish(self, timeout: float | None = None) -> None:
        assert timeout is not None and timeout < 1, "the end of a run would wait for a network"
        self.is_published()


class Client:
    """Keeps the order that paho and the standard ask for; `sends`: whether the network takes what is given."""

    made: ClassVar[list["Client"]] = []

    def __init__(self, version: Any, client_id: str = "", *, protocol: Any):
        assert (version, protocol) == ("v2", 4)
        self.client_id = client_id
        self.will: tuple[str, str, bool] | None = None
        self.login: tuple[str, str | None] | None = None
        self.to: tuple[str, int] | None = None
        self.tls = self.running = self.online = self.left = False
        self.sends = True
        self.published: list[tuple[str, str, bool]] = []
        self.messages: list[Message] = []
        self.on_connect: Any = None
        self.on_disconnect: Any = None
        Client.made.append(self)

    def will_set(self, topic: str, payload: str, qos: int, retain: bool) -> None:
        assert self.to is None, "3.1.3: the will is a part of CONNECT"
        self.will = (topic, payload, retain)

    def username_pw_set(self, user: str, password: str | None) -> None:
        assert self.to is None, "3.1.3: user and password are a part of CONNECT"
        self.login = (user, password)

    def tls_set(self) -> None:
        assert self.to is None, "paho refuses TLS once it connects"
        self.tls = True

    def reconnect_delay_set(self, min_delay: int, max_delay: int) -> None:
        assert 0 < min_delay <= max_delay

    def connect(self, *_: Any, **__: Any) -> None:
        raise AssertionError("waits for the network")

    def connect_async(self, host: str, port: int, keepalive: int) -> None:
        assert 0 < keepalive <= 65_535, "3.1.2.10: two bytes"
        self.to = (host, port)

    def loop_start(self) -> None:
        assert self.to
        self.running = True

    def loop_stop(self) -> None:
        raise AssertionError("joins a thread that may wait for the network")

    def is_connected(self) -> bool:
        return self.online

    def publish(self, topic: str, payload: str, qos: int = 0, retain: bool = False) -> Message:
        assert self.running, "without its thread paho writes to the network here and now"
        assert not self.left, "3.14.4: nothing is sent behind DISCONNECT"
        assert topic and not set(topic) & set("+#\0"), "4.7.1, 4.7.3: no name of a topic"
        assert qos == 0
        message = Message(0 if self.online else 4)  # MQTT_ERR_NO_CONN
        self.messages.append(message)
        if self.online:
            self.published.append((topic, payload, retain))
            message.sent = self.sends
        return message

    def disconnect(self) -> None:
        self.left = True

    def accept(self, refused: str = "") -> None:
        """CONNACK (3.2)."""
        self.online = not refused
        reason = SimpleNamespace(is_failure=bool(refused), __str__=lambda: refused)
        self.on_connect(self, None, None, reason, None)

    def lose(self) -> None:
        """The connection breaks; paho gives up what it held (reconnect())."""
        self.online = False
        for message in self.messages:
            if not message.sent:
                message.rc, message.sent = 7, True  # MQTT_ERR_CONN_LOST
        self.on_disconnect(self, None, None, "Unspecified error", None)


@pytest.fixture(autouse=True)
def paho(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`paho.mqtt.client`."""
    module = ModuleType("paho.mqtt.client")
    vars(module).update(Client=Client, MQTTv311=4, CallbackAPIVersion=SimpleNamespace(VERSION2="v2"))
    parents = [ModuleType("paho"), ModuleType("paho.mqtt")]
    parents[1].client = module  # type: ignore[attr-defined]
    for each in (*parents, module):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    monkeypatch.setattr(Client, "made", [])
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    return module


def opened(name: str = "mqtt://broker/street/cam") -> tuple[Mqtt, Client]:
    check_mqtt(name)
    assert not Client.made, "a name is looked at before anything is begun"
    return Mqtt(name, Scripted(0)), Client.made[0]


def opened_client(topic: str) -> Client:
    Mqtt(f"mqtt://broker/{topic}", Scripted(0))
    return Client.made[-1]


def areas_sent(client: Client) -> list[int]:
    return [json.loads(payload)["index"] for topic, payload, _ in client.published if topic == "street/cam"]


def test_the_next_run_takes_the_session_of_one_that_lost_its_power() -> None:
    """Its will came 45 s later, retained, over `online`. 3.1.3.1: every broker takes 23 letters and digits."""
    first, again, other = (opened_client(name) for name in ("street/cam", "street/cam", "street/cam-2"))
    assert first.client_id == again.client_id != other.client_id
    for each in (first, other, opened_client("stra%C3%9Fe/%FF")):
        assert each.client_id.isascii() and each.client_id.isalnum() and len(each.client_id) <= 23


def test_frames_are_published_while_there_is_a_broker(caplog: pytest.LogCaptureFixture) -> None:
    sink, client = opened()
    assert client.to == ("broker", 1883) and client.will == ("street/cam/status", "offline", True) and not client.tls
    sink.add(Found(0), row(0))  # not connected yet: of no use later
    client.accept()
    for index in (1, 2):
        taken = sink.add(Found(index), row(index, encode_ms=None)).encode_ms
        assert taken is not None and taken >= 0
    client.lose()
    sink.add(Found(3), row(3))
    client.accept()
    sink.add(Found(4), row(4))
    sink.close()
    sink.abandon()
    assert areas_sent(client) == [1, 2, 4] and client.left
    assert json.loads(client.published[1][1])["areas"]["class 1"] == 1.0
    statuses = [(payload, retain) for topic, payload, retain in client.published if topic == "street/cam/status"]
    assert statuses == [("online", True), ("online", True), ("offline", True)]
    assert (
        "2 of 5 frames were left out" in caplog.text and "is lost (Unspecified error); it is tried again" in caplog.text
    )


def test_a_network_that_takes_nothing_costs_no_memory_and_no_time() -> None:
    sink, client = opened()
    client.accept()
    client.sends = False
    for index in range(1000):
        sink.add(Found(index % 256), row(index))
    assert len(areas_sent(client)) == MOST_WAITING
    client.lose()
    client.accept()
    client.sends = True
    sink.add(Found(77), row(1000))
    assert areas_sent(client)[-1] == 77  # what was held is given up with the connection
    sink.close()


def test_a_broker_that_refuses_or_is_never_there(caplog: pytest.LogCaptureFixture) -> None:
    sink, client = opened()
    client.accept(refused="Not authorized")
    sink.add(Found(0), row(0))
    sink.close()
    assert client.published == [] and client.left and "refuses the connection" in caplog.text


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = read_broker("mqtts://me:p%40ss@[::1]:1884/a/b%20c/")
    assert (broker.host, broker.port, broker.tls, broker.user, broker.password) == ("::1", 1884, True, "me", "p@ss")
    assert broker.topic == "a/b c" and read_broker("mqtts://b/t").port == 8883
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")
    assert read_broker("mqtt://me@b/t").password == "secret"
    _, client = opened("mqtts://me@b/t")
    assert client.login == ("me", "secret") and client.tls and client.to == ("b", 8883)
    with pytest.raises(InputError, match="a password needs a user"):
        read_broker("mqtt://b/t")


@pytest.mark.parametrize(
    "name",
    [
        "broker",
        "broker/topic",
        "http://broker/topic",
        "mqtt:///topic",
        "mqtt://broker",
        "mqtt://broker/",
        "mqtt://b:x/t",
        "mqtt://b:99999/t",
        "mqtt://[::1/t",
        "mqtt://u:hunter2/x@b/t",
        "mqtt://b/a/+/c",
        "mqtt://b/%23",
        "mqtt://b/$SYS",
        "mqtt://b/t?retain=1",
        f"mqtt://b/{'x' * 70_000}",
    ],
)
def test_what_is_no_broker_is_refused_and_its_password_not_shown(name: str) -> None:
    with pytest.raises(InputError, match="--mqtt") as refused:
        SINKS["mqtt"].output(name.replace("://", "://me:hunter2@"))
    assert "hunter2" not in str(refused.value) and len(str(refused.value)) < 300


def test_without_the_library_or_with_an_old_one(monkeypatch: pytest.MonkeyPatch, paho: ModuleType) -> None:
    del vars(paho)["CallbackAPIVersion"]
    with pytest.raises(InputError, match="needs paho-mqtt 2.0 or newer"):
        check_mqtt("mqtt://b/t")
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(InputError, match=r"--mqtt needs paho-mqtt .*; pip install 'edgeprune\[mqtt\]'"):
        check_mqtt("mqtt://b/t")


def test_things_are_published_without_their_masks() -> None:
    sink, client = opened()
    client.accept()
    things = [(CAR, 0.9, mask(slice(0, 8), slice(0, 6)))]
    sink.add(result(task(32, 48), answer(things), 32, 48), row(0))
    sink.close()
    said = json.loads(client.published[1][1])
    assert said["counts"] == {"car": 1} and said["areas"]["car"] == 0.5
    assert said["things"] == [{"class": CAR, "name": "car", "score": 0.9, "box": [0, 0, 24, 32]}]
