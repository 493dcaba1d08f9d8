"""Connections that come for nothing."""

import socket
import time

import pytest

from tests.runtime.page.conftest import Serve, Served, publish_noise, until

connection = pytest.importorskip(
    "edgeprune.runtime.page.connection", reason="needs the extra `view`: pip install 'edgeprune[view]'"
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LOOK_S", 0.02)


def held(served: Served) -> int:
    return len(served.server._server.server_state.connections)


def is_ended(each: socket.socket) -> bool:
    try:
        return each.recv(1 << 16) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_who_asks_for_nothing_is_sent_away(serve: Serve, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 0.2)
    served = serve()
    with served.connect(sent) as idle:
        until(lambda: held(served) == 1)
        assert is_ended(idle)
        until(lambda: held(served) == 0)


def test_a_byte_now_and_then_is_no_request(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 0.3)
    served = serve()
    with served.connect(b"GET / HTTP/1.1\r\n") as slow:
        began_s = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() < began_s + 30:
                slow.sendall(b"X: y\r\n")
                time.sleep(0.02)
    until(lambda: held(served) == 0)


def test_a_viewer_who_takes_nothing_is_sent_away_and_one_who_waits_is_not(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALLED_S", 0.3)
    monkeypatch.setattr(connection, "IDLE_S", 0.3)
    served = serve()
    with served.watch() as stuck:
        until(lambda: served.page.viewers == 1)
        time.sleep(0.5)
        assert held(served) == 1  # there is no frame yet, and that is not the viewer's fault
        index = 0
        while held(served):
            publish_noise(served.publisher, index)
            index += 1
            time.sleep(0.005)
            assert index < 6000
        until(lambda: served.page.viewers == 0)
        stuck.close()


def test_one_too_many_is_closed_unheard(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST", 4)
    served = serve()
    idle = [served.connect() for _ in range(4)]
    until(lambda: held(served) == 4)
    with served.connect() as more:
        assert is_ended(more)
    idle.pop().close()
    until(lambda: held(served) == 3)
    assert served.ask("/page.css").status == 200
    for each in idle:
        each.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\nrubbish that is no request\r\n\r\n",
        b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
)
def test_what_breaks_a_protocol_breaks_one_connection(serve: Serve, sent: bytes) -> None:
    served = serve()
    with served.connect(sent) as odd:
        odd.settimeout(1)
        try:
            answer = odd.recv(1 << 16)
        except (TimeoutError, ConnectionError):
            answer = b""
        assert not answer or answer[9:12] in (b"200", b"400", b"413", b"421")
    until(lambda: held(served) == 0)
    assert served.ask("/page.css").status == 200
