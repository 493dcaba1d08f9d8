"""Requests that nobody would send: no traceback, no hang, and nothing shown to who has no token.

Each comes from a seeded random number, so that a finding is made again by its number: true requests with bytes changed, cut,
doubled or put in; headers without end; rubbish.
"""

import logging
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import pytest

from tests.runtime.page.conftest import TOKEN, Serve, Served, until

TOGETHER = 32  # connections at a time; the server takes 48
ANSWER_S, BRIEF_S = 0.5, 0.15  # what is not answered by then waits for more, as it may
PATHS = (
    b"/",
    b"/stats",
    b"/metrics",
    b"/healthz",
    b"/snapshot.jpg",
    b"/stream.mjpg",
    b"/page.js",
    b"/%2e%2e/",
    b"/?token=",
)
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"get", b"G\0T", b"PRI", b"")
HEADERS = (
    b"Host: localhost",
    b"Host: \xff\xfe",
    b"Connection: keep-alive, upgrade",
    b"Upgrade: websocket",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Expect: 100-continue",
    b"Cookie: edgeprune=1; =; ;;",
    b"Cookie: \x80\x81=\x82",
    b"Authorization: Bearer " + b"x" * 20,
    b"Authorization: Bearer \xe9\xff",
    b"Range: bytes=0-9,5-1,-",
    b"X-Forwarded-For: ::1, evil",
    b"Sec-Fetch-Site: cross-site",
    b"X: " + b"y" * 9000,
    b"X" * 300 + b": y",
    b"no colon",
    b" : folded",
)
BODIES = (*[b""] * 6, b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"ffffffffffffffff\r\nx", b"\0" * 2000)


def request(number: int) -> bytes:
    """The request of that number."""
    chance = random.Random(number)
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(1, 400))
    version = chance.choice((b"HTTP/1.1",) * 9 + (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ", b""))
    lines = [
        chance.choice(METHODS if chance.random() < 0.2 else (b"GET",)) + b" " + chance.choice(PATHS) + b" " + version
    ]
    if chance.random() < 0.8:
        lines.append(b"Host: localhost")
    lines += chance.choices(HEADERS, k=chance.choice((0, 0, 0, 1, 1, 2, 4)))
    whole = b"\r\n".join(lines) + b"\r\n\r\n" + chance.choice(BODIES)
    if chance.random() < 0.2:
        whole *= chance.randrange(2, 6)  # one behind the other
    return mutated(whole, chance)


def mutated(whole: bytes, chance: random.Random) -> bytes:
    """With some of its bytes changed, cut, doubled or put in."""
    data = bytearray(whole)
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 5, 20))):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(4)
        if kind == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del data[at : at + chance.randrange(1, 20)]
        elif kind == 2:
            data[at:at] = data[at : at + chance.randrange(1, 200)]
        else:
            data[at:at] = chance.choice((b"\r\n", b"\0", b"%", b"\xff", b" ", b"\r", b"?", b";", b":", b"A" * 3000))
        data = data or bytearray(b"\0")
    return bytes(data)


def answers(served: Served, numbers: Iterator[int], answer_s: float) -> Iterator[tuple[int, bytes]]:
    """Sends requests, many at a time, each on a connection of its own; the number and what came back within answer_s."""
    while some := list(islice(numbers, TOGETHER)):
        open_: dict[socket.socket, int] = {}
        for number in some:
            connection = served.connect()
            open_[connection] = number
            with suppress(ConnectionError):  # refused before its end
                connection.sendall(request(number))
        deadline_s = time.monotonic() + answer_s
        while open_ and time.monotonic() < deadline_s:
            for connection in select.select(list(open_), [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                try:
                    yield open_[connection], connection.recv(1 << 16)
                except ConnectionError:
                    yield open_[connection], b""
                del open_[connection]
                connection.close()
        for connection, number in open_.items():
            yield number, b""
            connection.close()


def campaign(serve: Serve, first: int, count: int, token: str | None, caplog: pytest.LogCaptureFixture) -> Counter[str]:
    """How often each status came."""
    served = serve(token)
    served.publish(1)
    # a flaw in an answer is an error here; the server itself would keep it to itself
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    found: Counter[str] = Counter()
    with caplog.at_level(logging.WARNING, "edgeprune"), caplog.at_level(logging.WARNING, "asyncio"):
        for number, answer in answers(served, iter(range(first, first + count)), BRIEF_S if count > 1000 else ANSWER_S):
            found[
                answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "none" if not answer else "?"
            ] += 1
            assert not answer.startswith(b"HTTP/1.1 500"), (number, answer)
            assert b"Traceback" not in answer, (number, answer)
            if token:
                assert answer[9:10] != b"2" and b"JFIF" not in answer and b'"frames"' not in answer, (number, answer)
        until(lambda: not served.server._server.server_state.connections)
        until(lambda: served.page.viewers == 0)
    assert sum(found.values()) == count
    assert not caplog.records, [record.getMessage() for record in caplog.records]
    known = {"Authorization": f"Bearer {token}"} if token else {}
    assert served.ask("/stats", headers=known).json["frames"] == 1 and served.publisher.take().totals.faults == 0
    assert set(found) <= {"none", "200", "400", "401", "403", "404", "405", "413", "414", "421", "431", "503"}, found
    return found


@pytest.mark.parametrize("token", [None, TOKEN])
def test_requests_that_nobody_would_send(serve: Serve, token: str | None, caplog: pytest.LogCaptureFixture) -> None:
    found = campaign(serve, 0, 192, token, caplog)
    assert found["400"] > 20 and found["401" if token else "200"] > 10, found


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_hundred_thousand_of_them(serve: Serve, token: str | None, caplog: pytest.LogCaptureFixture) -> None:
    print(campaign(serve, 1000, 50_000, token, caplog))
