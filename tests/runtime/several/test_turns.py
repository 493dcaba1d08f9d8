"""Whose frame is next."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise

import pytest

from edgeprune.base.errors import RunError
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.cameras.reconnect import CameraGivenUp, Reconnecting
from edgeprune.runtime.cameras.source import CameraLost, CameraUnplugged, FrameSource
from edgeprune.runtime.several.turns import Turn, Turns
from tests.runtime.several.cameras import Simulated

WORK_S = 0.01  # of a frame in the graphs


@contextmanager
def turns_of(**sources: FrameSource) -> Iterator[Turns]:
    turns = Turns({name: open_capture(source) for name, source in sources.items()})
    try:
        yield turns
    finally:
        for source in sources.values():
            if isinstance(source, Simulated):
                source.closed.set()
        turns.close()


def take(turns: Turns, seconds: float, work_s: float = WORK_S) -> list[Turn]:
    """What a loop takes that works so long on each frame."""
    until_ns = time.monotonic_ns() + round(seconds * 1e9)
    taken = []
    while turn := turns.take(until_ns):
        taken.append(turn)
        time.sleep(work_s)
    return taken


def frames(taken: list[Turn]) -> Mapping[str, int]:
    return Counter(turn.camera for turn in taken if turn.frame)


def offered(taken: list[Turn], camera: str) -> int:
    """Its frames, and those that newer ones replaced, as a busy machine may make it."""
    return sum(1 + turn.dropped for turn in taken if turn.camera == camera and turn.frame)


def longest_wait_s(taken: list[Turn], camera: str) -> float:
    """For a camera's next frame, from when it was captured."""
    captured_s = [turn.frame.capture_ns / 1e9 for turn in taken if turn.camera == camera and turn.frame]
    return max(later - earlier for earlier, later in pairwise(captured_s))


def test_cameras_that_all_have_frames_get_equal_turns() -> None:
    """Three that are faster than the loop, at rates 25 times apart, and a file that is always ready."""
    sources = {"slow": 40.0, "fast": 200.0, "fastest": 1000.0}
    with turns_of(
        file=Simulated("file", None), **{name: Simulated(name, fps) for name, fps in sources.items()}
    ) as turns:
        taken = take(turns, 1.2, work_s=0.03)
    served = [turn.camera for turn in taken[8:]]
    counted = Counter(served)
    assert max(counted.values()) - min(counted.values()) <= 1 and len(served) >= 12
    assert all(len(set(served[at : at + 4])) == 4 for at in range(len(served) - 3))  # one after the other


def test_a_slow_camera_loses_no_frame_to_a_fast_one_and_waits_for_one_frame_of_each_other_at_most() -> None:
    with turns_of(slow=Simulated("slow", 10), fast=Simulated("fast", 1000), other=Simulated("other", 1000)) as turns:
        taken = take(turns, 1.2)
    slow = [turn for turn in taken if turn.camera == "slow" and turn.frame]
    assert len(slow) >= 9 and sum(turn.dropped for turn in slow) == 0
    counted = frames(taken)
    assert abs(counted["fast"] - counted["other"]) <= len(slow) + 1 and counted["fast"] > 3 * counted["slow"]


def test_of_a_live_camera_it_is_the_newest_frame_and_what_is_left_out_is_counted() -> None:
    source = Simulated("fast", 500)
    with turns_of(fast=source) as turns:
        taken = take(turns, 0.6, work_s=0.05)
    indices = [turn.frame.index for turn in taken if turn.frame]
    assert [turn.dropped for turn in taken[1:]] == [later - earlier - 1 for earlier, later in pairwise(indices)]
    assert sum(turn.dropped for turn in taken) > 5 * len(taken)
    with turns_of(file=Simulated("file", None, count=30)) as turns:
        taken = take(turns, 10, work_s=0)
    assert [turn.frame.index for turn in taken if turn.frame] == list(range(30)) and taken[-1] == Turn("file", None)


def test_one_that_hangs_ends_or_fails_holds_nobody_up() -> None:
    gone = CameraUnplugged("it is gone")
    with turns_of(
        hung=Simulated("hung", 100, hangs_after=3),
        ends=Simulated("ends", 100, count=4),
        fails=Simulated("fails", 100, count=5, then=gone),
        steady=Simulated("steady", 100),
    ) as turns:
        taken = take(turns, 1.5, work_s=0.001)
    assert {name: offered(taken, name) for name in ("hung", "ends", "fails")} == {"hung": 3, "ends": 4, "fails": 5}
    assert frames(taken)["steady"] > 60 and longest_wait_s(taken, "steady") < 0.5
    ends = {turn.camera: turn.error for turn in taken if turn.frame is None}
    assert ends == {"ends": None, "fails": gone}


def test_one_that_is_opened_anew_holds_nobody_up_and_ends_when_it_is_given_up() -> None:
    def missing() -> FrameSource:
        raise RunError("not there")

    lost = Reconnecting(Simulated("lost", 100, count=5, then=CameraLost("it is lost")), missing, 1.0, lambda: None)
    steady = Simulated("steady", 100)
    turns = Turns({"lost": lost, "steady": open_capture(steady)})
    taken = take(turns, 1.6, work_s=0.001)
    steady.closed.set()
    turns.close()
    assert offered(taken, "lost") == 5 and longest_wait_s(taken, "steady") < 0.5
    at, end = next((at, turn) for at, turn in enumerate(taken) if turn.frame is None)
    assert isinstance(end.error, CameraGivenUp) and 30 <= at < len(taken) - 10  # after a second, frames on both sides


def test_the_end_of_all_and_that_of_time() -> None:
    with turns_of(a=Simulated("a", None, count=1), b=Simulated("b", 20, count=2)) as turns:
        taken = take(turns, 10, work_s=0)
        assert frames(taken)["a"] == 1 and offered(taken, "b") == 2 and turns.take() is None
    with turns_of(silent=Simulated("silent", 1, hangs_after=0)) as turns:
        began_s = time.monotonic()
        assert turns.take(time.monotonic_ns() + 200_000_000) is None
        assert 0.2 <= time.monotonic() - began_s < 10


def test_closing_is_quick_and_opens_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal may come while a camera is away, and another hangs: all are waited for at once."""
    for module in ("several.turns", "cameras.capture"):
        monkeypatch.setattr(f"edgeprune.runtime.{module}.CLOSE_TIMEOUT_S", 1.0)
    opened = []

    def opener() -> FrameSource:
        opened.append(time.monotonic())
        raise RunError("not there")

    lost = Reconnecting(Simulated("lost", 100, count=1, then=CameraLost("it is lost")), opener, 60, lambda: None)
    hung = [Simulated(f"hung{each}", 100, hangs_after=0) for each in range(4)]
    turns = Turns({"lost": lost, **{source.uri: open_capture(source) for source in hung}})
    assert take(turns, 1.0)[0].camera == "lost"
    began_s = time.monotonic()
    turns.close()
    closed_s = time.monotonic()
    assert closed_s - began_s < 3.5
    for source in hung:
        source.closed.set()
    for thread in threading.enumerate():
        if thread.name == "camera lost":
            thread.join(10)
            assert not thread.is_alive()
    assert not [each for each in opened if each > closed_s]


def test_a_flaw_in_a_thread_is_not_lost() -> None:
    flaw = ZeroDivisionError("a flaw")
    with turns_of(broken=Simulated("broken", 100, count=1, then=flaw)) as turns:
        assert [turn.error for turn in take(turns, 1.0)] == [None, flaw]


def test_a_camera_that_is_left_gives_nothing_more() -> None:
    with turns_of(left=Simulated("left", 200), steady=Simulated("steady", 200)) as turns:
        take(turns, 0.1)
        turns.leave("left")
        assert set(frames(take(turns, 0.2))) == {"steady"}
        with pytest.raises(KeyError):
            turns.leave("left")
