"""How a run ends whose outputs are beside the graphs: by a sink, by Ctrl-C, and with nothing left behind."""

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeprune.base.errors import RunError
from edgeprune.runtime.choose import Chooser
from edgeprune.runtime.pipeline import PIPELINES, OutputsBeside
from edgeprune.runtime.row import Row
from edgeprune.runtime.run import CutShort, Outcome
from edgeprune.runtime.tasks import Result
from tests.runtime.loop.fakes import WAIT_S, Log, Scripted, until
from tests.runtime.rows import read

BESIDE = [name for name, pipeline in PIPELINES.items() if pipeline.outputs]


def make_slow(chooser: Chooser, hanging: threading.Event) -> Chooser:
    """The fourth frame is in the graphs until the third hangs in its sink."""
    calls = iter(range(100))

    def choose(count: int) -> str:
        if next(calls) == 3:
            assert hanging.wait(WAIT_S)
        return chooser(count)

    return choose


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_sink_that_fails_ends_the_run_with_what_came_before(
    go: Callable[..., Outcome], log: Callable[..., Log], tmp_path: Path, pipeline: str, at: int
) -> None:
    """The last frame's failure, too, which only the end of the run hears of."""

    def fail(result: Result, row: Row) -> None:
        if result.index == at:
            raise RunError("the broker is gone")

    sink = log(fail)
    summary, failure = go(pipeline, Scripted(8), view="0", record=tmp_path / "rows.csv")
    kept = tmp_path / "rows.partial.csv"
    left = f"{at} frames until then are in {kept}" if at else "no frame was processed before"
    assert str(failure) == f"the broker is gone; {left}" and isinstance(failure, RunError)
    assert (summary.ended, summary.figures.frames, len(sink.rows)) == ("failure", at, at)
    assert not at or len(read(kept)) == at
    assert [path.name for path in tmp_path.iterdir()] == ([kept.name] if at else [])


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_file_that_the_system_refuses_is_a_failure(
    go: Callable[..., Outcome], log: Callable[..., Log], pipeline: str
) -> None:
    def fail(result: Result, row: Row) -> None:
        if result.index == 4:
            raise OSError(5, "Input/output error", "a.bin")

    log(fail)
    _, failure = go(pipeline, Scripted(5), view="0")
    assert str(failure) == "a.bin: Input/output error; 4 frames until then were processed"


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_what_nobody_foresaw_reaches_the_caller(
    go: Callable[..., Outcome], log: Callable[..., Log], pipeline: str
) -> None:
    """And keeps nobody waiting."""

    def fail(result: Result, row: Row) -> None:
        raise SystemExit(7)

    log(fail)
    with pytest.raises(SystemExit):
        go(pipeline, Scripted(50), view="0")


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_ctrl_c_loses_no_frame_that_was_handed_over(
    go: Callable[..., Outcome], log: Callable[..., Log], tmp_path: Path, pipeline: str
) -> None:
    calls = iter(range(100))

    def interrupted(count: int) -> str:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return "full"

    log(lambda result, row: time.sleep(0.03))
    summary, failure = go(pipeline, Scripted(50), chooser=interrupted, view="0", record=tmp_path / "rows.csv")
    assert failure is None and summary.ended == "interrupted"
    assert len(read(tmp_path / "rows.csv")) == summary.figures.frames == 4


@pytest.mark.parametrize("pipeline", BESIDE)
def test_a_sink_that_writes_nothing_and_hangs_keeps_no_run_from_its_end(
    go: Callable[..., Outcome], log: Callable[..., Log], tmp_path: Path, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the run is ended from outside. Its frame is in no file, then or later."""
    hanging, comes_back = threading.Event(), threading.Event()

    def hang(result: Result, row: Row) -> None:
        if result.index == 2:
            hanging.set()
            comes_back.wait(WAIT_S)

    def interrupted(count: int) -> str:
        if hanging.is_set():
            raise KeyboardInterrupt
        return "full"

    monkeypatch.setattr("edgeprune.runtime.pipeline.asked", hanging.is_set)
    left: list[threading.Thread] = []
    monkeypatch.setattr("edgeprune.runtime.pipeline.leave_behind", left.append)
    log(hang)
    slow = make_slow(interrupted, hanging)
    summary, failure = go(pipeline, Scripted(50), chooser=slow, view="0", record=tmp_path / "rows.csv")
    assert failure is None and summary.ended == "interrupted" and summary.figures.frames == 2
    comes_back.set()
    [thread] = left
    thread.join(WAIT_S)
    assert not thread.is_alive() and len(read(tmp_path / "rows.csv")) == 2


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C, whatever a verb has installed in this process before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("pipeline", BESIDE)
@pytest.mark.usefixtures("ctrl_c")
def test_a_second_ctrl_c_waits_for_no_sink(
    go: Callable[..., Outcome], log: Callable[..., Log], tmp_path: Path, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, draining, comes_back = threading.Event(), threading.Event(), threading.Event()
    drain = OutputsBeside.drain

    def drained(outputs: OutputsBeside) -> None:
        draining.set()
        drain(outputs)

    def hang(result: Result, row: Row) -> None:
        if result.index == 2:
            hanging.set()
            assert draining.wait(WAIT_S)
            _thread.interrupt_main()
            comes_back.wait(WAIT_S)

    def interrupted(count: int) -> str:
        if hanging.is_set():
            raise KeyboardInterrupt
        return "full"

    monkeypatch.setattr(OutputsBeside, "drain", drained)
    monkeypatch.setattr("edgeprune.runtime.pipeline.leave_behind", lambda thread: None)
    log(hang, key="areas")
    with pytest.raises(
        CutShort, match=r"before its files were finished; 2 frames until then are in .*rows.partial.csv"
    ):
        chooser = make_slow(interrupted, hanging)
        go(pipeline, Scripted(50), chooser=chooser, areas="areas.jsonl", record=tmp_path / "rows.csv")
    assert len(read(tmp_path / "rows.partial.csv")) == 2
    comes_back.set()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_no_thread_is_left(go: Callable[..., Outcome], log: Callable[..., Log], pipeline: str) -> None:
    log()
    go(pipeline, Scripted(50), frames=3, view="0")
    go(pipeline, Scripted(4), view="0")
    assert until(lambda: not {"outputs", "fit"} & {thread.name for thread in threading.enumerate()})
