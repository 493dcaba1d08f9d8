"""Frames that are fitted, drawn and written beside the graphs: in order, as many as before, and no more than two at a time."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.budget.costs import BucketCosts
from edgeprune.runtime.budget.governor import Governor
from edgeprune.runtime.budget.wanted import parse_budget
from edgeprune.runtime.cameras.source import Frame, Picture
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import Session
from edgeprune.runtime.pipeline import PIPELINES, Places, choose_pipeline
from edgeprune.runtime.row import Row
from edgeprune.runtime.run import Outcome
from edgeprune.runtime.running import Counted, Fitted, Running
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.tasks import Result
from tests import bundles
from tests.runtime.loop.fakes import WAIT_S, Log, Scripted, Steps, scripted_frame, until
from tests.runtime.rows import ledger_of, read

BESIDE = [name for name, pipeline in PIPELINES.items() if pipeline.outputs]


def test_every_pipeline_finds_and_writes_the_same(go: Callable[..., Outcome], tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    for name in PIPELINES:
        summary, failure = go(
            name, Scripted(30), frames=17, record=tmp_path / f"{name}.csv", labels=tmp_path / f"{name}.npz"
        )
        assert failure is None and summary.figures.frames == 17 and summary.pipeline == name
        rows = read(tmp_path / f"{name}.csv")
        assert [int(row["index"]) for row in rows] == list(range(17))
        with np.load(tmp_path / f"{name}.npz") as archive:
            found[name] = [row["bucket"] for row in rows], {key: archive[key] for key in archive}
    for buckets, labels in found.values():
        assert buckets == found["off"][0] and list(labels) == [f"{index:08d}" for index in range(17)]
        assert all(np.array_equal(label_HW, found["off"][1][key]) for key, label_HW in labels.items())


@pytest.mark.parametrize("pipeline", BESIDE)
def test_two_frames_are_in_flight_and_never_three(
    go: Callable[..., Outcome],
    log: Callable[..., Log],
    session: Session,
    pipeline: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sink that has a frame until the graphs are done with the next: the one after that is not even fitted by then."""
    fitted, most = [0], [0]
    fit = Running.fit

    def counted(running: Running, frame: Frame) -> Fitted:
        fitted[0] += 1
        most[0] = max(most[0], fitted[0] - len(sink.rows))
        return fit(running, frame)

    def wait(result: Result, row: Row) -> None:
        last = result.index == 9
        assert until(
            lambda: steps.done >= min(10, result.index + 2)
        )  # the next frame went through the graphs meanwhile
        time.sleep(0 if last else 0.005)
        assert fitted[0] <= result.index + 2

    monkeypatch.setattr(Running, "fit", counted)
    sink, steps = log(wait), Steps(session)
    _, failure = go(pipeline, Scripted(10), steps, view="0")
    assert failure is None and len(sink.rows) == 10 and most[0] == 2
    assert sink.threads == {"outputs"}


def test_the_plain_loop_does_one_frame_after_the_other(
    go: Callable[..., Outcome], log: Callable[..., Log], session: Session
) -> None:
    steps = Steps(session)
    done = []
    sink = log(lambda result, row: done.append(steps.begun))
    assert go("off", Scripted(5), steps, view="0").failure is None
    assert done == [1, 2, 3, 4, 5] and sink.threads == {threading.current_thread().name}


@pytest.mark.parametrize("pipeline", BESIDE)
def test_a_result_outlives_the_next_frames_graphs(
    go: Callable[..., Outcome], log: Callable[..., Log], session: Session, pipeline: str
) -> None:
    """What crosses to another thread is in no buffer that graphs write to again."""
    steps, seen = Steps(session), []

    def look(result: Result, row: Row) -> None:
        assert until(lambda: steps.done >= min(12, result.index + 2))
        seen.append((result.labels.copy(), result.frame.image_HW3.copy(), result.bucket))

    log(look)
    assert go(pipeline, Scripted(12), steps, view="0").failure is None
    for index, (label_HW, image_HW3, bucket) in enumerate(seen):
        assert np.array_equal(image_HW3, scripted_frame(index))
        expected_hw = bundles.expected_labels(image_HW3, bucket)
        assert np.array_equal(label_HW, expected_hw.repeat(bundles.CELL, 0).repeat(bundles.CELL, 1))


class Fast(Scripted):
    """A live source that gives a frame a millisecond."""

    def one_pass(self) -> Iterator[Picture]:
        for picture in super().one_pass():
            time.sleep(0.001)
            yield picture


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_slow_sink_on_a_live_source_drops_frames_that_are_counted(
    go: Callable[..., Outcome], log: Callable[..., Log], tmp_path: Path, pipeline: str
) -> None:
    log(lambda result, row: time.sleep(0.02))
    source = Fast(150, live=True)
    source.paced = pipeline == "all"  # a camera's frames are not fitted ahead
    source._wait = lambda shown_s: None  # type: ignore[method-assign]
    summary, failure = go(pipeline, source, view="0", record=tmp_path / "rows.csv")
    rows = read(tmp_path / "rows.csv")
    indices = [int(row["index"]) for row in rows]
    assert failure is None and indices[-1] == 149  # the newest frame is never one of those
    gaps = np.diff([-1, *indices]) - 1
    assert [int(row["dropped"]) for row in rows] == gaps.tolist() and (gaps > 0).any()
    assert summary.figures.dropped == 150 - len(rows)


def test_a_camera_s_newest_frame_is_taken_when_there_is_a_place(
    go: Callable[..., Outcome], log: Callable[..., Log], session: Session
) -> None:
    """A frame that waited for a sink would be old when its turn comes."""
    given = [threading.Event() for _ in range(6)]

    class Told(Scripted):
        def one_pass(self) -> Iterator[Picture]:
            for index, picture in enumerate(super().one_pass()):
                assert given[index].wait(WAIT_S)
                yield picture

    def hold(result: Result, row: Row) -> None:
        if result.index == 0:
            given[1].set()
            assert until(lambda: steps.done == 2)  # both places are taken
            for event in given[2:]:
                event.set()
            assert until(lambda: not source_thread().is_alive())

    def source_thread() -> threading.Thread:
        return next((each for each in threading.enumerate() if each.name == "capture scripted"), threading.Thread())

    given[0].set()
    steps, sink = Steps(session), log(hold)
    assert go("outputs", Told(6, live=True), steps, view="0").failure is None
    assert [row.index for row in sink.rows] == [0, 1, 5] and sink.rows[2].dropped == 3


def test_a_function_of_the_user_s_own_stays_in_the_loop_s_thread(
    go: Callable[..., Outcome], log: Callable[..., Log]
) -> None:
    called, shown = log(key="call"), log(key="view")
    assert go("all", Scripted(5), call="robot:publish", view="0").failure is None
    assert called.threads == {threading.current_thread().name} and shown.threads == {"outputs"}
    assert [row.index for row in called.rows] == [row.index for row in shown.rows] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("pipeline", BESIDE)
def test_what_is_done_beside_the_graphs_is_no_cost_of_the_loop(
    go: Callable[..., Outcome], log: Callable[..., Log], tmp_path: Path, session: Session, pipeline: str
) -> None:
    """Neither what encoding takes nor waiting for it; the latency is of the frame alone, and what it waited is in that."""
    log(lambda result, row: time.sleep(0.05) or row.after_encoding(50.0))  # type: ignore[func-returns-value]
    summary, _ = go(pipeline, Scripted(12), view="0", record=tmp_path / "rows.csv")
    rows = ledger_of(read(tmp_path / "rows.csv"))
    assert np.median(rows.ms("loop_ms")) < 40 and rows.ms("loop_ms").min() >= 0
    assert summary.overhead.ms_per_frame is not None
    stages_ms = sum(rows.ms(f"{stage}_ms") for stage in ("fit", "trunk", "choose", "tail"))
    waited_ms = rows.ms("latency_ms") - stages_ms
    assert (waited_ms > -0.01).all()
    assert (
        summary.figures.fps is not None and summary.figures.fps < 1000 / 50 * 1.5
    )  # throughput is of the slowest stage


def test_a_rate_is_judged_by_the_slower_of_graphs_and_outputs(
    go: Callable[..., Outcome], log: Callable[..., Log], bundle: Bundle
) -> None:
    """The governor hears of both, and of no waiting."""

    heard: list[tuple[float, float]] = []

    class Hearing:
        budget = parse_budget("15fps")

        def choose(self, asked: str, trunk_ms: float, spent_ms: float) -> str:
            return asked

        def learn(self, bucket: str, tail_ms: float, latency_ms: float) -> None:
            pass

        def between(self, work_ms: float, beside_ms: float = 0.0) -> None:
            heard.append((work_ms, beside_ms))

    log(lambda result, row: time.sleep(0.05))
    governor = cast(Governor, Hearing())
    assert go("outputs", Scripted(12), governor=governor, view="0").failure is None
    work_ms, beside_ms = np.median(heard, axis=0)
    assert beside_ms >= 50 and work_ms < 40


@pytest.mark.parametrize(
    ("between_ms", "beside_ms", "bucket"),
    [
        (1.0, 0.0, "large"),
        (60.0, 0.0, "small"),  # one after the other
        (1.0, 60.0, "large"),  # beside each other both are within 67 ms
        (1.0, 100.0, "small"),  # which no bucket helps, as where even the smallest is over
    ],
)
def test_a_rate_with_outputs_beside_the_graphs(between_ms: float, beside_ms: float, bucket: str) -> None:
    costs = BucketCosts({"small": [10.0] * 8, "large": [50.0] * 8}, [5.0] * 8)
    governor = Governor(parse_budget("15fps"), ["small", "large"], costs)
    chosen = ""
    for _ in range(100):
        chosen = governor.choose("large", 5.0, 7.0)
        tail_ms = {"small": 10.0, "large": 50.0}[chosen]
        governor.learn(chosen, tail_ms, 7.0 + tail_ms)
        governor.between(between_ms, beside_ms)
    assert chosen == bucket


def test_fitting_ahead_is_refused_where_it_would_do_harm(
    go: Callable[..., Outcome], bundle: Bundle, session: Session
) -> None:
    governor = cast(Governor, type("Budgeted", (), {"budget": parse_budget("33ms")})())
    with pytest.raises(InputError, match="lets frames wait for the graphs, which --budget counts; type --pipeline out"):
        go("all", Scripted(3), governor=governor)
    with pytest.raises(InputError, match="those of camera scripted would be old by then; type --pipeline outputs"):
        go("all", Scripted(3, live=True))
    with pytest.raises(InputError, match="unknown pipeline 'al'; choices: off, outputs, all; did you mean 'all'"):
        go("al", Scripted(3))


def test_by_default_outputs_have_a_core_that_the_graphs_leave(bundle: Bundle, session: Session) -> None:
    stream = Stream(bundle, session, make_chooser("in-frame", bundle.manifest.buckets))
    assert [choose_pipeline(None, stream, cores).name for cores in (1, 2, 8)] == ["off", "outputs", "outputs"]


def test_a_frame_that_was_fitted_to_another_bundle_s_input_is_fitted_anew(bundle: Bundle, session: Session) -> None:
    running = Running(bundle, session, make_chooser("in-frame", bundle.manifest.buckets))
    frame = Frame(0, scripted_frame(7), 0)
    other = Preprocess(2 * bundles.H, 2 * bundles.W)
    ahead = Fitted(other.fit(frame.image_HW3), other, start_ns=1, end_ns=2)
    result = running.process(frame, Counted(0, 0), ahead)
    again = running.process(frame, Counted(0, 0), running.fit(frame))
    assert np.array_equal(result.labels, again.labels) and result.bucket == again.bucket
    assert result.facts.start_ns == 1  # it was in hand then, and its latency counts from there


def test_places() -> None:
    places = Places(2)
    places.take()
    places.take()
    taken = threading.Event()

    def take() -> None:
        places.take()
        taken.set()

    threading.Thread(target=take, daemon=True).start()
    assert not taken.wait(0.02)
    places.give_back()
    assert taken.wait(WAIT_S)
    closed = threading.Thread(target=places.take, daemon=True)
    closed.start()
    places.close()
    closed.join(WAIT_S)
    assert not closed.is_alive()
