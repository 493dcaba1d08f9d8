"""The areas of each frame, and its things without their masks, to an MQTT broker: `run --mqtt mqtt://HOST/TOPIC`.

The section numbers are those of MQTT 3.1.1 (OASIS, 2014). The client is paho's, whose thread connects, sends and comes back
after a loss; the loop only leaves messages with it. They go with QoS 0 (4.3.1, at most once): what cannot be sent now is of no
use later.
"""

import hashlib
import json
import logging
import os
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras.source import FrameSource
from edgeprune.runtime.row import Row, milliseconds
from edgeprune.runtime.sinks.areas import areas_of
from edgeprune.runtime.sinks.sink import Sink
from edgeprune.runtime.tasks import Result

logger = logging.getLogger(__name__)

EXAMPLE = "mqtt://broker.local/street/camera-1"
PORTS = {"mqtt": 1883, "mqtts": 8883}
PASSWORD_VARIABLE = "EDGEPRUNE_MQTT_PASSWORD"
TOPIC_BYTES = 65_535 - len("/status")  # 1.5.3: a string has a length of two bytes
MOST_WAITING = 30  # messages that the client holds for a slow network; what comes then is left out
KEEP_ALIVE_S = 30  # 3.1.2.10: a broker that hears nothing for one and a half times as long publishes the will
SLOWEST_RETRY_S = 60
FAREWELL_S = 0.3  # that the end of a run waits for its last message


@dataclass(frozen=True)
class Broker:
    """Where messages go.

    Attributes:
        tls: whether the connection is encrypted, and the broker's certificate looked at.
        user, password: None: without.
        topic: of the frames; `topic/status` says `online` or `offline`.
    """

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None
    topic: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def read_broker(name: str) -> Broker:
    """`mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC`; the password may stand in PASSWORD_VARIABLE.

    Raises:
        InputError: it is none, or has no topic that can be published to. What was typed is not shown: it may be a password.
    """
    try:
        parts = urlsplit(name)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may hold a part of the password
        raise InputError(f"--mqtt: no address of a broker, or no port of one; type one as {EXAMPLE}") from None
    if parts.scheme not in PORTS or not host:
        raise InputError(f"--mqtt takes mqtt://HOST/TOPIC, or mqtts:// with TLS; type one as {EXAMPLE}")
    if parts.query or parts.fragment:
        raise InputError(f"--mqtt: ? and # have no meaning in an address of a broker; type one as {EXAMPLE}")
    topic = unquote(parts.path).strip("/")
    if not topic or any(each in topic for each in "+#\0") or topic.startswith("$"):
        # 4.7.1: wildcards are for subscribers; 4.7.2: $ is the broker's own; 4.7.3: at least one character, no NUL
        raise InputError(f"--mqtt: a topic is needed, without +, # and a $ at its beginning; type one as {EXAMPLE}")
    if len(topic.encode(errors="replace")) > TOPIC_BYTES:
        raise InputError(f"--mqtt: the topic is longer than {TOPIC_BYTES:,} bytes; type a shorter one")
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else os.environ.get(PASSWORD_VARIABLE)
    if password and not user:  # 3.1.2.9: without a user there must be no password
        raise InputError(
            f"--mqtt: a password needs a user; type mqtt://USER@HOST/TOPIC, or leave {PASSWORD_VARIABLE} out"
        )
    return Broker(host, port or PORTS[parts.scheme], parts.scheme == "mqtts", user, password, topic)


def load_paho() -> ModuleType:
    """`paho.mqtt.client`. Raises InputError where it isn't installed, or is older than 2.0."""
    try:
        from paho.mqtt import client
    except ImportError as error:
        raise InputError(f"--mqtt needs paho-mqtt ({error}); pip install 'edgeprune[mqtt]'") from error
    if not hasattr(client, "CallbackAPIVersion"):
        raise InputError("--mqtt needs paho-mqtt 2.0 or newer; pip install --upgrade 'edgeprune[mqtt]'")
    module: ModuleType = client
    return module


def check_mqtt(name: str) -> None:
    """Refuses what is no broker, before anything is begun; it writes nothing.

    Raises:
        InputError: as `read_broker` and `load_paho`.
    """
    read_broker(name)
    load_paho()


class Mqtt(Sink):
    """Hands the areas of each frame to the client's thread. A broker that is not there, or comes back, changes nothing else."""

    def __init__(self, name: str, source: FrameSource):
        self._broker = read_broker(name)
        self._status = f"{self._broker.topic}/status"
        self._waiting: deque[Any] = deque()
        self._frames = self._left_out = 0
        self._ended = False
        self._client = self._connect(load_paho())
        self.note = f"MQTT: to {self._broker}, topics {self._broker.topic} and {self._status}"

    def _connect(self, paho: ModuleType) -> Any:
        """A client whose thread connects, now and whenever it has to. Nothing here waits for the network."""
        broker = self._broker
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=client_id(broker.topic), protocol=paho.MQTTv311
        )
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.will_set(self._status, "offline", qos=0, retain=True)  # 3.1.2.5: published where the process is killed
        if broker.user:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            client.tls_set()
        client.reconnect_delay_set(min_delay=1, max_delay=SLOWEST_RETRY_S)
        client.connect_async(broker.host, broker.port, keepalive=KEEP_ALIVE_S)
        client.loop_start()
        return client

    def add(self, result: Result, row: Row) -> Row:
        start_ns = time.monotonic_ns()
        self._frames += 1
        while self._waiting and _is_gone(self._waiting[0]):
            self._waiting.popleft()
        if len(self._waiting) >= MOST_WAITING or not self._client.is_connected():
            self._left_out += 1
        else:
            self._waiting.append(
                self._client.publish(self._broker.topic, json.dumps(areas_of(result, masks=False)), qos=0)
            )
        return row.after_encoding(milliseconds(start_ns, time.monotonic_ns()))

    def close(self) -> None:
        """Says `offline` and leaves; waits for no network longer than FAREWELL_S."""
        if self._ended:
            return
        self._ended = True
        if self._client.is_connected():
            with suppress(ValueError, RuntimeError):  # the connection was lost just now: the broker publishes the will
                self._client.publish(self._status, "offline", qos=0, retain=True).wait_for_publish(FAREWELL_S)
        self._client.disconnect()  # its thread ends by itself: it may be waiting for a name or a connection
        if self._left_out:
            left_out = f"{self._left_out} of {self._frames} frames were left out"
            logger.warning(f"MQTT: {left_out}, for {self._broker} did not take them")

    def abandon(self) -> None:
        self.close()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        """In the client's thread."""
        if self._ended:
            return
        if reason.is_failure:  # 3.2.2.3
            logger.warning(f"MQTT: {self._broker} refuses the connection: {reason}; it is tried again")
            return
        logger.info(f"MQTT: connected to {self._broker}")
        client.publish(self._status, "online", qos=0, retain=True)

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        """In the client's thread."""
        if not self._ended:
            logger.warning(f"MQTT: the connection to {self._broker} is lost ({reason}); it is tried again")


def client_id(topic: str) -> str:
    """Who publishes to a topic, the same in every run: where the one before lost its power, the broker ends its connection and
    publishes its will before it answers ours (3.1.4), not over our `online` when it misses it. 23 letters and digits, which
    every broker takes (3.1.3.1)."""
    return f"edgeprune{hashlib.sha256(topic.encode(errors='backslashreplace')).hexdigest()[:14]}"


def _is_gone(message: Any) -> bool:
    """Whether the client has sent a message, or given it up."""
    try:
        return bool(message.is_published())
    except (ValueError, RuntimeError):
        return True
