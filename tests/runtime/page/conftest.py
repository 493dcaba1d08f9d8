"""A page whose loop is the test: frames are published by hand, and asked for over a real connection."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgeprune.runtime.about import About
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.first_decision import FirstDecision, TokenMap
from edgeprune.runtime.page.publisher import Publisher
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import row
from tests.runtime.sinks.found import Found

TOKEN = "a-token-of-the-tests"
ABOUT = About(
    "tiny",
    "reference 1 (numpy), fp32",
    ("road", "sky"),
    {"half": 0.5, "full": 1.0},
    "no energy sensor: none",
    lambda: 3,
    lambda seconds: False,
)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served(NamedTuple):
    """A server and what it serves: the camera alone, or the first of `cameras`."""

    publisher: Publisher
    page: Any  # of `app`
    server: Any
    port: int
    cameras: Mapping[str, Publisher]

    def ask(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def connect(self, sent: bytes = b"") -> socket.socket:
        found = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        found.sendall(sent)
        return found

    def watch(self, path: str = "/stream.mjpg") -> socket.socket:
        """A connection that has asked for the stream, in a version of HTTP that does not cut it into chunks."""
        return self.connect(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())

    def publish(self, index: int, **values: Any) -> None:
        publish(self.publisher, index, **values)


def publish(publisher: Publisher, index: int, *, height: int = 6, width: int = 9, **values: Any) -> None:
    """A frame that is done this moment."""
    now_ns = time.monotonic_ns()
    times = {"start_ns": now_ns - 10**6, "end_ns": now_ns}
    publisher.publish(Found(index, height=height, width=width), row(index, **times | values))


class Mapped(Found):
    """A frame whose tokens are known: two of a grid of 2x3 stay. Its picture is lighter where it was asked to show them."""

    def __init__(self, index: int, known: bool = True):
        super().__init__(index, height=48, width=72)
        if known:
            token_map = TokenMap(FirstDecision((2, 3), False, {"full": [2]}), np.arange(6.0), "full")
            self.facts = replace(self.facts, token_map=token_map)

    def overlay(self, tokens: bool = False, status: str | None = None) -> UInt8:
        return np.full_like(self.frame.image_HW3, 200 if tokens else 50)


class Counted(Found):
    """A frame whose things are counted."""

    def __init__(self, index: int, things: dict[str, int]):
        super().__init__(index)
        self._things = things

    def counts(self) -> dict[str, int]:
        return self._things


class Noisy(Found):
    """A picture whose JPEG takes some 100 KB."""

    def overlay(self, tokens: bool = False, status: str | None = None) -> UInt8:
        random = np.random.default_rng(self.index)
        return random.integers(0, 256, (240, 320, 3), np.uint8)


class Asked(list[float]):
    """What was asked for: an `About.map_tokens` of a bundle that has maps."""

    def __call__(self, seconds: float) -> bool:
        self.append(seconds)
        return True


def publish_mapped(publisher: Publisher, index: int, known: bool = True) -> None:
    publisher.publish(Mapped(index, known), row(index, end_ns=time.monotonic_ns()))


def publish_counted(publisher: Publisher, index: int, things: dict[str, int]) -> None:
    publisher.publish(Counted(index, things), row(index, end_ns=time.monotonic_ns(), things=things))


def publish_noise(publisher: Publisher, index: int) -> None:
    publisher.publish(Noisy(index % 6), row(index, end_ns=time.monotonic_ns()))


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """serve(token=..., share=..., cameras=...): a page at a free port."""
    reason = "needs the extra `view`: pip install 'edgeprune[view]'"
    for library in ("starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(library, reason=reason)
    from edgeprune.runtime.page.address import Address
    from edgeprune.runtime.page.app import Page
    from edgeprune.runtime.page.guard import Access, Guard
    from edgeprune.runtime.page.server import Server

    began = []

    def make(token: str | None = None, share: float = 1.0, cameras: Sequence[str] = ("",)) -> Served:
        publishers = {name: Publisher(Scripted(0, fps=10)) for name in cameras}
        for publisher in publishers.values():
            publisher.about = ABOUT
        page = Page(publishers)
        listener = Address("127.0.0.1", 0).bind()
        port = listener.getsockname()[1]
        hosts = None if token else frozenset({"localhost", "127.0.0.1", "::1"})
        server = Server(Guard(page.app, Access(token, hosts, f"edgeprune_{port}")), listener, share)
        began.append(server)
        return Served(publishers[cameras[0]], page, server, port, publishers)

    yield make
    for server in began:
        server.stop()


def until(true: Callable[[], Any], patience_s: float = 30.0) -> None:
    """Waits until it is, however slow the machine."""
    deadline_s = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(0.01)
