import time
from collections.abc import Callable
from typing import Any

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras.capture import EveryFrame, NewestFrame, Reading, open_capture
from edgeprune.runtime.cameras.reconnect import open_lasting
from edgeprune.runtime.cameras.source import CameraStalled, CameraUnplugged, StreamTruncated

MakeSource = Callable[..., Any]
PATIENCE_S = 10.0


def drain(capture: Reading) -> None:
    """Waits until the source has given all that it has."""
    assert capture.source.closed.wait(PATIENCE_S)  # type: ignore[attr-defined]
    capture._thread.join(PATIENCE_S)


def test_newest_frame_is_kept_and_the_others_are_counted(scripted: MakeSource) -> None:
    with NewestFrame(scripted(10, live=True)) as capture:
        drain(capture)
        got = capture.get(PATIENCE_S)
        assert got is not None
        frame, dropped = got
        assert (frame.index, dropped, capture.dropped) == (9, 9, 9)
        assert capture.get(PATIENCE_S) is None
        assert capture.get(PATIENCE_S) is None


def test_dropped_is_counted_since_the_frame_before(scripted: MakeSource) -> None:
    capture = NewestFrame(scripted(1, live=True, block=True))
    got = capture.get(PATIENCE_S)
    assert got is not None and got[1] == 0
    with capture._changed:
        for _ in range(3):
            capture._admit(got[0])
    again = capture.get(PATIENCE_S)
    assert again is not None and (again[1], capture.dropped) == (2, 2)
    with capture._changed:
        for _ in range(2):
            capture._admit(got[0])
    third = capture.get(PATIENCE_S)
    assert third is not None and (third[1], capture.dropped) == (1, 3)


def test_every_frame_drops_nothing_and_reads_only_a_little_ahead(scripted: MakeSource) -> None:
    source = scripted(50, live=False)
    with EveryFrame(source) as capture:
        indices = []
        while (got := capture.get(PATIENCE_S)) is not None:
            indices.append(got[0].index)
            assert got[1] == 0
            assert source.read <= len(indices) + EveryFrame.AHEAD + 1
    assert indices == list(range(50)) and capture.dropped == 0
    assert source.closed.is_set()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("error", [CameraUnplugged("gone"), StreamTruncated("cut off"), InputError("corrupt b.png")])
def test_pending_frame_comes_before_the_error(scripted: MakeSource, live: bool, error: Exception) -> None:
    with open_capture(scripted(1, live=live, then=error)) as capture:
        got = capture.get(PATIENCE_S)
        assert got is not None and got[0].index == 0
        for _ in range(2):
            with pytest.raises(type(error)) as raised:
                capture.get(PATIENCE_S)
            assert raised.value is error


@pytest.mark.parametrize("live", [True, False])
def test_stalled_source(scripted: MakeSource, live: bool) -> None:
    source = scripted(1, live=live, block=True)
    with open_capture(source) as capture:
        assert capture.get(PATIENCE_S) is not None
        with pytest.raises(CameraStalled, match=r"no frame from scripted for 0\.05 s"):
            capture.get(0.05)
        source.release.set()
        assert capture.get(PATIENCE_S) is None


@pytest.mark.parametrize("live", [True, False])
def test_who_waits_for_a_quiet_pipe_gives_signs_of_life(
    scripted: MakeSource, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    """It may be quiet for however long, and systemd ended a run that was for a minute."""
    monkeypatch.setattr("edgeprune.runtime.cameras.capture.LOOK_S", 0.01)
    source, told = scripted(1, live=live, block=True), []
    source.paced = True

    def alive() -> None:
        told.append(time.monotonic())
        if len(told) == 3:
            source.release.set()

    with open_lasting(source, lambda: source, give_up_s=300, alive=alive) as capture:
        assert capture.patience_s is None and capture.get(None) is not None
        assert capture.get(None) is None and len(told) >= 3
        many = len(told)
    quiet = scripted(0, live=True, block=True)
    quiet.paced = True
    with open_lasting(quiet, lambda: quiet, give_up_s=300, alive=alive) as capture:
        assert capture.get(None, time.monotonic_ns() + 10**8) is None  # a run of so many seconds
        assert len(told) > many


def test_close_of_a_capture_that_hangs_returns(scripted: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.capture.CLOSE_TIMEOUT_S", 0.05)
    source = scripted(1, live=True, block=True)
    capture = NewestFrame(source)
    assert capture.get(PATIENCE_S) is not None
    capture.close()
    assert not source.closed.is_set()  # never closed under the feet of the thread that is inside it
    source.release.set()
    assert source.closed.wait(PATIENCE_S)


def test_close_in_the_middle_of_a_file(scripted: MakeSource) -> None:
    source = scripted(1000, live=False)
    capture = EveryFrame(source)
    assert capture.get(PATIENCE_S) is not None
    capture.close()
    assert source.closed.is_set() and source.read < 1000


def test_live_sources_get_the_newest_frame(scripted: MakeSource) -> None:
    with open_capture(scripted(1, live=True)) as live, open_capture(scripted(1, live=False)) as file:
        assert isinstance(live, NewestFrame) and isinstance(file, EveryFrame)


def test_the_clock_of_a_file_that_is_played_waits_for_who_wants_its_first_frame(scripted: MakeSource) -> None:
    """Graphs are opened and warmed up meanwhile: the beginning of a clip was dropped."""
    source = scripted(3, live=True)
    source.paced = source.played = True
    source.fps = 4.0
    with NewestFrame(source) as capture:
        time.sleep(0.6)
        got = capture.get(PATIENCE_S)
        assert got is not None and (got[0].index, got[1]) == (0, 0)
        drain(capture)
    unread = scripted(3, live=True)
    unread.played = True
    with NewestFrame(unread) as capture:
        pass
    assert unread.closed.is_set() and unread.read == 0 and not capture.alive
    assert capture.get(PATIENCE_S) is None  # closed; nothing is begun


def test_a_camera_that_is_opened_late_may_take_its_time_to_open(scripted: MakeSource) -> None:
    """Opening it took from the time that its first frame may take, and a slow camera stalled before it had one."""

    def slowly() -> Any:
        time.sleep(0.3)
        return scripted(1, live=True)

    with open_capture(scripted(1, live=True), slowly, later=True) as capture:
        got = capture.get(0.1)
        assert got is not None and got[0].index == 0
