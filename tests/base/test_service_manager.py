"""The protocol of sd_notify(3), over a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.base.service_manager import EVERY_S, ServiceManager
from tests.base.manager import Listener


@pytest.fixture(params=["file", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    address = str(tmp_path / "notify") if request.param == "file" else f"@edgeprune-test-{os.getpid()}"
    with Listener(address) as listening:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listening


def test_the_first_frame_is_ready_and_signs_of_life_are_few(listener: Listener) -> None:
    now_s = 100.0
    manager = ServiceManager(lambda: now_s)
    manager.did_a_frame()
    manager.did_a_frame()
    assert listener.heard() == ["READY=1", "WATCHDOG=1"]
    now_s += EVERY_S
    manager.did_a_frame()
    manager.is_alive()
    assert listener.heard() == ["WATCHDOG=1"]
    now_s += EVERY_S
    manager.is_alive()
    manager.says("frame 3\nSTOPPING=1")
    manager.stops()
    assert listener.heard() == ["WATCHDOG=1", "STATUS=frame 3 STOPPING=1", "STOPPING=1"]


def test_a_camera_that_is_away_before_the_first_frame_is_not_ready(listener: Listener) -> None:
    """Its start may last longer than any start: as long as it says so."""
    ServiceManager().is_alive()
    assert listener.heard() == ["EXTEND_TIMEOUT_USEC=60000000", "WATCHDOG=1"]


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative", "/nowhere/socket", "/" + "x" * 200, "@\0"])
def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address and "\0" not in address:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    manager = ServiceManager()
    manager.did_a_frame()
    manager.stops()


def test_a_manager_that_reads_nothing_holds_nobody_up(listener: Listener) -> None:
    manager = ServiceManager()
    for number in range(5000):  # more than a socket's queue holds
        manager.says(str(number))
    assert listener.heard()[0] == "STATUS=0"


def test_a_stream_socket_is_no_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(tmp_path / "stream"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "stream"))
        ServiceManager().did_a_frame()
