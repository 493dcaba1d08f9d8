"""A live camera that is lost: opened anew with pauses, counted, and given up."""

import itertools
import logging
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import reconnect
from edgeprune.runtime.cameras.reconnect import Away, CameraGivenUp, Reconnecting, open_lasting, open_or_wait
from edgeprune.runtime.cameras.source import CameraAway, CameraLost, CameraStalled, CameraUnplugged, FrameSource

MakeSource = Callable[..., Any]
PATIENCE_S = 10.0
GONE = CameraUnplugged("camera scripted is gone (ENODEV); plug it in, and run again")


def opener(*connections: FrameSource | Exception) -> Callable[[], FrameSource]:
    """Opens one after the other, the last again and again."""
    left = iter(connections)
    last: list[FrameSource | Exception] = []

    def open_next() -> FrameSource:
        last[:] = [next(left, *last)]
        if isinstance(last[0], Exception):
            raise last[0]
        return last[0]

    return open_next


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(reconnect, "LONGEST_PAUSE_S", 0.02)


def indices_of(capture: Reconnecting, timeout_s: float = PATIENCE_S) -> list[int]:
    found = []
    while (got := capture.get(timeout_s)) is not None:
        found.append(got[0].index)
    return found


@pytest.mark.parametrize("lost", [GONE, CameraLost("hung up"), CameraStalled("silent")])
def test_a_lost_camera_is_opened_anew_and_its_frames_count_on(
    scripted: MakeSource, caplog: pytest.LogCaptureFixture, lost: Exception
) -> None:
    caplog.set_level(logging.INFO, "edgeprune")
    first, second, third = scripted(1, live=True, then=lost), scripted(1, live=True, then=lost), scripted(1, live=True)
    first.damaged, second.damaged = 2, 3
    with Reconnecting(first, opener(InputError("not there yet; wait"), second, third), 60) as capture:
        assert indices_of(capture) == [0, 1, 2]
        assert (capture.reconnects, capture.damaged) == (2, 5)
    assert all(each.closed.is_set() for each in (first, second, third))
    begun = str(lost).partition(";")[0]
    assert caplog.messages[0] == f"{begun}; reconnecting for up to 1 min"
    assert caplog.messages[1].startswith("camera scripted is back after 0") and "with frame 1" in caplog.messages[1]


@pytest.mark.parametrize("give_up_s", [0, 60])
def test_a_camera_that_rests_is_closed_until_its_first_frame_is_wanted(scripted: MakeSource, give_up_s: float) -> None:
    first, second = scripted(5, live=True), scripted(1, live=True)
    with open_lasting(first, opener(second), give_up_s, later=True) as capture:
        assert first.closed.is_set() and first.read == second.read == 0
        got = capture.get(PATIENCE_S)
        assert got is not None and (got[0].index, got[1], capture.dropped, capture.reconnects) == (0, 0, 0, 0)
    assert second.closed.is_set()
    with open_lasting(scripted(1, live=True), opener(scripted(1, live=True)), give_up_s, later=True) as unread:
        pass
    assert unread.get(PATIENCE_S) is None


def test_a_camera_that_rested_and_is_away_then_is_waited_for(scripted: MakeSource) -> None:
    away = CameraAway("no answer from scripted; check it")
    with open_lasting(scripted(1, live=True), opener(away, away, scripted(1, live=True)), 60, later=True) as capture:
        got = capture.get(PATIENCE_S)
        assert got is not None and (got[0].index, capture.reconnects) == (0, 1)
    with (
        open_lasting(scripted(1, live=True), opener(away), 0, later=True) as capture,
        pytest.raises(CameraAway, match="no answer"),
    ):
        capture.get(PATIENCE_S)


@pytest.mark.parametrize("live", [True, False])
def test_what_can_not_be_opened_again_rests_without_being_closed(scripted: MakeSource, live: bool) -> None:
    """A pipe; and a file, of which nothing is decoded meanwhile."""
    source = scripted(1, live=live)
    source.paced = True
    with open_lasting(source, opener(InputError("never asked")), 60, later=True) as capture:
        time.sleep(0.05)
        assert source.read == 0 and not source.closed.is_set()
        got = capture.get(PATIENCE_S)
        assert got is not None and got[0].index == 0


def test_dropped_frames_of_every_connection_are_counted(scripted: MakeSource) -> None:
    first = scripted(5, live=True, then=GONE)
    capture = Reconnecting(first, opener(scripted(3, live=True)), 60)
    assert first.closed.wait(PATIENCE_S)
    got = capture.get(PATIENCE_S)
    assert got is not None and (got[0].index, got[1]) == (4, 4)
    rest, dropped = [], 0
    while (got := capture.get(PATIENCE_S)) is not None:
        rest.append(got[0].index)
        dropped += got[1]
    assert rest[-1] == 7 and len(rest) + dropped == 3 and capture.dropped == 4 + dropped


def test_an_attempt_that_the_end_cuts_off_does_not_say_why(
    scripted: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had a moment, and waited for no frame; what the one before found out is told."""
    capture = Reconnecting(scripted(1, live=True, then=GONE), opener(InputError("never asked")), 0.2)
    assert capture.get(PATIENCE_S) is not None
    attempts: list[float] = []

    def attempt(timeout_s: float | None, end_s: float, until_ns: int | None) -> None:
        attempts.append(end_s)
        if len(attempts) == 1:
            raise InputError("no camera at /dev/video0; type another")
        time.sleep(max(0.0, end_s - time.monotonic()))
        raise CameraStalled("no frame from scripted for 0 s; check the camera and run again")

    monkeypatch.setattr(capture, "_attempt", attempt)
    with pytest.raises(
        CameraGivenUp, match=r"2 attempts to reconnect, the last of which ended so: no camera at /dev/video0;"
    ):
        capture.get(PATIENCE_S)


def test_a_camera_that_does_not_come_back_is_given_up(scripted: MakeSource) -> None:
    missing = InputError("no camera at /dev/video0; type another")
    capture = Reconnecting(scripted(1, live=True, then=GONE), opener(missing), 0.2)
    assert capture.get(PATIENCE_S) is not None
    began_s = time.monotonic()
    with pytest.raises(CameraGivenUp) as given_up:
        capture.get(PATIENCE_S)
    assert 0.2 <= time.monotonic() - began_s < PATIENCE_S
    said = str(given_up.value)
    assert said.startswith("camera scripted is gone (ENODEV); given up after 0.2 s and ")
    assert said.endswith(
        " attempts to reconnect, the last of which ended so: no camera at /dev/video0; check it and run again"
    )
    assert int(said.split(" and ")[1].split()[0]) >= 4 and given_up.value.exit_code == 3
    with pytest.raises(CameraGivenUp, match="given up"):
        capture.get(PATIENCE_S)


def test_a_camera_that_opens_and_gives_nothing_is_given_up(scripted: MakeSource) -> None:
    silent = (scripted(0, live=True, block=True) for _ in itertools.count())
    capture = Reconnecting(scripted(1, live=True, then=GONE), lambda: next(silent), 0.3)
    assert capture.get(0.05) is not None
    with pytest.raises(
        CameraGivenUp, match=r"given up after 0\.3 s and 1 attempt to reconnect, .*: no frame from scripted"
    ):
        capture.get(0.05)


def test_what_is_lost_before_its_first_frame_is_an_error_at_once(scripted: MakeSource) -> None:
    for then in (GONE, InputError("no such stream")):
        capture = Reconnecting(scripted(0, live=True, then=then), opener(scripted(1, live=True)), 60)
        with pytest.raises(type(then)) as raised:
            capture.get(PATIENCE_S)
        assert raised.value is then and capture.reconnects == 0


AWAY = CameraAway("no camera at /dev/video7; cameras here: none")


def test_a_camera_that_is_not_there_at_the_start_is_tried_again_where_that_was_said(
    scripted: MakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgeprune")
    for first in (AWAY, scripted(0, live=True, then=CameraStalled("it is silent; look at it"))):
        caplog.clear()
        told: list[float] = []
        coming = opener(first, AWAY, scripted(0, live=True, then=GONE), scripted(2, live=True, block=True))
        source = open_or_wait("/dev/video7", coming, 60)
        with open_lasting(source, coming, 60, alive=partial(told.append, 0.0), from_start=True) as capture:
            got = capture.get(PATIENCE_S)
            assert got is not None and got[0].index == got[1] and capture.reconnects == 1
        what = "no camera at /dev/video7" if first is AWAY else "it is silent"
        assert caplog.messages[0] == f"{what}; trying again for up to 1 min"
        assert len(caplog.messages) == 2 and " is there after " in caplog.messages[1]
        assert len(told) >= 6  # of the service's watchdog: before each pause and each attempt


def test_a_camera_that_comes_late_says_of_itself_what_one_says_that_is_there(
    scripted: MakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgeprune")
    note = "frames of 1920x1080 come scaled"
    for name, later in (("", False), ("front", False), ("front", True)):
        caplog.clear()
        connections = [scripted(1, live=True, then=GONE), scripted(1, live=True, then=GONE), scripted(1, live=True)]
        for each, fps in zip(connections, (30.0, 30.0, 15.0), strict=True):
            each.fps, each.note = fps, note
        coming = opener(*connections)
        source = Away("/dev/video7", AWAY)
        with open_lasting(source, coming, 60, name=name, from_start=True, later=later) as capture:
            assert capture.get(PATIENCE_S) is not None and (source.fps, source.note) == (30.0, note)
            assert indices_of(cast(Reconnecting, capture)) == [1, 2] and source.fps == 15.0
        assert [line for line in caplog.messages if note in line] == [f"camera {name}: {note}" if name else note]


def test_a_camera_that_never_comes_is_given_up_in_one_line(scripted: MakeSource) -> None:
    source = open_or_wait("/dev/video7", opener(AWAY), 0.1)
    assert isinstance(source, Away) and source.live
    capture = open_lasting(source, opener(AWAY), 0.1, from_start=True)
    with pytest.raises(CameraGivenUp) as given_up:
        capture.get(PATIENCE_S)
    said = (
        r"no camera at /dev/video7; given up after 0\.1 s and [1-9]\d* attempts? to reconnect; check it and run again"
    )
    assert re.fullmatch(said, str(given_up.value)) and given_up.value.exit_code == 3


def test_without_being_told_nobody_waits_for_what_is_not_there() -> None:
    with pytest.raises(CameraAway) as at_once:
        open_or_wait("/dev/video7", opener(AWAY), None)
    hint = "at the start it is not tried again, unless you type --give-up 5m"
    assert str(at_once.value) == f"{AWAY} ({hint})" and at_once.value.exit_code == 2
    with pytest.raises(CameraAway, match="cameras here: none$"):
        open_or_wait("/dev/video7", opener(AWAY), 0.0)  # never
    wrong = InputError("unknown option")
    with pytest.raises(InputError) as refused:
        open_or_wait("/dev/video7?siez=1x1", opener(wrong), 60)
    assert refused.value is wrong


def test_a_fault_of_ours_is_not_tried_again(scripted: MakeSource) -> None:
    capture = Reconnecting(scripted(1, live=True, then=ZeroDivisionError()), opener(scripted(1, live=True)), 60)
    with pytest.raises(ZeroDivisionError):
        indices_of(capture)


def test_what_hung_delivers_nothing_later(scripted: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread comes back when another connection is there already."""
    monkeypatch.setattr("edgeprune.runtime.cameras.capture.CLOSE_TIMEOUT_S", 0.01)
    hanging, second = scripted(3, live=True, block=True), scripted(1, live=True, block=True)
    original = hanging.one_pass

    def one_then_hang() -> Any:
        pictures = original()
        yield next(pictures)
        hanging.release.wait()
        yield from pictures

    hanging._pictures = one_then_hang()
    capture = Reconnecting(hanging, opener(second, scripted(1, live=True)), 60)
    assert capture.get(PATIENCE_S) is not None
    got = capture.get(0.05)
    assert got is not None and (got[0].index, capture.reconnects) == (1, 1)
    hanging.release.set()
    assert hanging.closed.wait(PATIENCE_S) and hanging.read == 2
    second.then = GONE
    second.release.set()
    got = capture.get(PATIENCE_S)
    assert got is not None and got[0].index == 2 and capture.get(PATIENCE_S) is None


def test_connections_that_hang_are_not_heaped_up(scripted: MakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.capture.CLOSE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(reconnect, "OPENING_S", 0.0)
    begun = []

    def open_hanging() -> FrameSource:
        begun.append(scripted(0, live=True, block=True))
        source: FrameSource = begun[-1]
        return source

    capture = Reconnecting(scripted(1, live=True, then=GONE), open_hanging, 1.0)
    assert capture.get(0.02) is not None
    with pytest.raises(CameraGivenUp, match="the last of which ended so: 4 connections to scripted hang"):
        capture.get(0.02)
    assert len(begun) == reconnect.MOST_HANGING


def test_pauses_double_up_to_the_longest_and_begin_again_after_a_steady_connection(
    scripted: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "FIRST_PAUSE_S", 0.5)
    monkeypatch.setattr(reconnect, "LONGEST_PAUSE_S", 10.0)
    clock_s, pauses_s = [1000.0], []

    def sleep(pause_s: float) -> None:
        pauses_s.append(pause_s)
        clock_s[0] += pause_s

    monkeypatch.setattr(reconnect.time, "sleep", sleep)
    monkeypatch.setattr(reconnect.time, "monotonic", lambda: clock_s[0])
    missing = InputError("not there")
    steady = scripted(2, live=False, then=GONE)
    capture = Reconnecting(scripted(1, live=True, then=GONE), opener(*[missing] * 7, steady, missing), 300)
    assert capture.get(None) is not None and capture.get(None) is not None
    nominal_s = [0.5, 1, 2, 4, 8, 10, 10, 10]
    assert (
        len(pauses_s) == 8
        and len({pause_s / whole_s for pause_s, whole_s in zip(pauses_s, nominal_s, strict=True)}) > 4
    )
    assert all(0.8 * whole_s <= pause_s <= 1.2 * whole_s for pause_s, whole_s in zip(pauses_s, nominal_s, strict=True))
    capture._first_s -= 11  # it had given frames for as long
    with pytest.raises(CameraGivenUp, match=r"given up after 5 min and 3\d attempts"):
        while True:
            capture.get(None)
    assert pauses_s[8] <= 0.6 and sum(pauses_s[8:]) == pytest.approx(300)


def test_nobody_wants_a_frame_any_more(scripted: MakeSource) -> None:
    """The end of `--seconds` comes while a camera is away."""
    capture = Reconnecting(scripted(1, live=True, then=GONE), opener(InputError("not there")), 60)
    assert capture.get(PATIENCE_S) is not None
    began_ns = time.monotonic_ns()
    assert capture.get(PATIENCE_S, began_ns + 100_000_000) is None
    assert 0.1 <= (time.monotonic_ns() - began_ns) / 1e9 < PATIENCE_S
