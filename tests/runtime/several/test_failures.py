"""What is left of a run of several cameras whose graphs fail, and of one that a signal ends at the wrong moment."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base import ending
from edgeprune.base.ending import end_on_signals
from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.cameras.source import CameraUnplugged
from edgeprune.runtime.recorded import Recorded
from edgeprune.runtime.row import Row
from edgeprune.runtime.sinks.record import Record
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.tasks import Result
from tests.runtime.loop.fakes import CountingMeter, Scripted
from tests.runtime.rows import read
from tests.runtime.several import test_several
from tests.runtime.several.cameras import Simulated
from tests.runtime.several.test_several import Start, start

__all__ = ["start"]

CALLED = {"call": f"{test_several.__name__}:called"}


@pytest.fixture
def signals() -> Iterator[None]:
    """Those of this process end what runs, as at the command line."""
    end_on_signals()
    yield
    end_on_signals()  # forgets that one came


@pytest.mark.parametrize("error", [RunError("it broke"), InputError("it broke"), OSError(5, "it broke")])
def test_graphs_that_fail_end_all_with_a_summary(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], error: Exception
) -> None:
    process = Stream.process

    def fail_in_the_end(stream: Stream, *about: Any, **more: Any) -> Result:
        if stream._frames == 9:
            raise error
        return process(stream, *about, **more)

    monkeypatch.setattr(Stream, "process", fail_in_the_end)
    meter = CountingMeter()
    sources = {"a": Scripted(20), "b": Scripted(20), "none": Simulated("none", 5, hangs_after=0)}
    summary, failure = start(sources, {"record": str(tmp_path / "rows.csv")}, meter=meter)
    assert isinstance(failure, RunError) and str(failure) == summary.failure and failure.exit_code == 3
    assert (summary.ended, summary.figures.frames, meter.stopped) == ("failure", 9, 1)
    assert summary.energy.mj_per_frame == pytest.approx(1000 * 20 / 9)
    assert {each.ended for each in summary.cameras.values()} == {"failure"}
    kept = {name: tmp_path / f"rows-{name}.partial.csv" for name in ("a", "b")}
    counts = {name: len(read(path)) for name, path in kept.items()}
    assert sum(counts.values()) == 9 and set(tmp_path.iterdir()) == set(kept.values())
    left = "; ".join(f"{name}: it broke; {counts[name]} frames until then are in {path}" for name, path in kept.items())
    assert str(failure) == f"what all cameras share failed: {left}; none: it broke; no frame was processed before"
    assert not any("is lost" in line for line in said)


def test_a_signal_while_a_lost_camera_is_ended_is_not_why_it_ended(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    end = Recorded.end

    def signalled(recorded: Recorded, failure: RunError | None, failed: bool) -> RunError | None:
        if failure and "is gone" in str(failure):
            signal.raise_signal(signal.SIGTERM)
        return end(recorded, failure, failed)

    monkeypatch.setattr(Recorded, "end", signalled)
    sources = {"lost": Scripted(3, then=CameraUnplugged("/dev/video1 is gone; plug it in")), "b": Simulated("b", 50)}
    summary, failure = start(sources, {"record": str(tmp_path / "rows.csv")}, seconds=60.0)
    assert {name: each.ended for name, each in summary.cameras.items()} == {"lost": "failure", "b": "interrupted"}
    assert str(failure).startswith("1 of 2 cameras was lost: lost: /dev/video1 is gone; plug it in; 3 frames")
    assert (tmp_path / "rows-lost.partial.csv").exists() and not (tmp_path / "rows-lost.csv").exists()


def test_a_signal_while_an_output_fails_is_not_why_its_camera_ended(
    start: Start, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    def refuse(result: Result) -> None:
        if result.camera == "b":
            raise ValueError("enough of it")

    leave = test_several.Turns.leave

    def signalled(turns: test_several.Turns, camera: str) -> None:
        signal.raise_signal(signal.SIGTERM)
        leave(turns, camera)

    test_several._Calls.called = refuse
    monkeypatch.setattr(test_several.Turns, "leave", signalled)
    summary, failure = start({"a": Simulated("a", 50), "b": Scripted(5)}, CALLED, seconds=60.0)
    assert {name: each.ended for name, each in summary.cameras.items()} == {"a": "interrupted", "b": "failure"}
    assert "1 of 2 cameras was lost: b: " in str(failure) and "enough of it" in str(failure)


def test_a_frame_that_is_recorded_when_a_signal_comes_is_in_the_totals(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    add, added = Record.add, []

    def signalled(record: Record, result: Result, row: Row) -> Row:
        added.append(result.camera)
        if len(added) == 4:
            signal.raise_signal(signal.SIGTERM)
        return add(record, result, row)

    monkeypatch.setattr(Record, "add", signalled)
    summary, failure = start({"a": Scripted(20), "b": Scripted(20)}, {"record": str(tmp_path / "rows.csv")})
    assert failure is None and summary.ended == "interrupted" and len(added) == 4
    rows = [row for path in tmp_path.glob("rows-?.csv") for row in read(path)]
    assert len(rows) == summary.figures.frames == sum(each.figures.frames for each in summary.cameras.values()) == 4


def test_a_function_that_hangs_is_left_at_a_signal(start: Start, signals: None) -> None:
    """Only what writes is waited for."""

    def hang(result: Result) -> None:
        if result.index == 2:
            signal.raise_signal(signal.SIGTERM)
            went_on.append(result.index)

    went_on: list[int] = []
    test_several._Calls.called = hang
    summary, _ = start({"a": Scripted(20), "b": Scripted(20)}, CALLED)
    assert summary.ended == "interrupted" and not went_on


def test_a_hard_stop_leaves_the_earlier_record_of_a_camera_without_a_frame(start: Start, tmp_path: Path) -> None:
    def stop(result: Result) -> None:
        if result.index == 3:
            for finish in reversed(ending._ending.finishers):  # as the thread does that waits for no graph
                finish()
            raise KeyboardInterrupt

    test_several._Calls.called = stop
    before = tmp_path / "rows-none.csv"
    before.write_text("of yesterday\n")
    sources = {"a": Scripted(20), "none": Simulated("none", 5, hangs_after=0)}
    start(sources, {**CALLED, "record": str(tmp_path / "rows.csv")})
    assert before.read_text() == "of yesterday\n" and len(read(tmp_path / "rows-a.csv")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows-a.csv", "rows-none.csv"]
