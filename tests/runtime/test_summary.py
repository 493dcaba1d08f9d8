"""The summary of a run says what its rows say."""

from dataclasses import astuple, fields
from pathlib import Path

import pytest

from edgeprune.base.statistics import Percentiles, percentiles
from edgeprune.runtime.figures import Overhead, overhead
from edgeprune.runtime.row import MS_COLUMNS, Ledger, Row
from edgeprune.runtime.sinks import SINKS
from edgeprune.runtime.sinks.record import Record
from edgeprune.runtime.summary import RunFigures, RunSummary, summarise_run
from edgeprune.runtime.thing_counts import ThingFigures
from tests.runtime import rows


def row(index: int) -> Row:
    """A frame every 50 ms that took 40 ms."""
    start_ns = 7_000_000_000 + index * 50_000_000
    stages = {
        "fit_ms": 1.0,
        "trunk_ms": 10.0 + index,
        "choose_ms": 0.5,
        "tail_ms": 20.0,
        "overlay_ms": 2.0,
        "encode_ms": None,
    }
    return rows.row(
        index + (index >= 4),
        name=f"{index:06d}",
        capture_ns=start_ns - 5_000_000,
        presentation_s=None,
        start_ns=start_ns,
        end_ns=start_ns + 40_000_000,
        wait_ms=3.0,
        **stages,
        latency_ms=31.5 + index,
        bucket="b40" if index % 3 else "b80",
        tokens=1000 + index,
        dropped=1 if index == 4 else 0,
        loop_ms=0.25 if index else None,
    )


@pytest.fixture
def ledger() -> Ledger:
    """Ten rows."""
    ledger = Ledger()
    for index in range(10):
        ledger.add(row(index))
    return ledger


def test_summary_by_hand(ledger: Ledger) -> None:
    figures = summarise_run(ledger)
    assert figures.frames == len(ledger) == 10 and figures.dropped == 1
    assert figures.offered == 11  # the frame that was dropped has a number, too
    assert figures.fps == pytest.approx(10 / 0.49)
    assert figures.latency_ms == percentiles([31.5 + index for index in range(10)])
    assert astuple(figures.latency_ms) == pytest.approx((36.0, 40.05, 40.41))
    assert astuple(figures.age_ms) == pytest.approx((45.0, 45.0, 45.0))  # captured 5 ms before it was taken
    assert list(figures.stages_ms) == ["fit", "trunk", "choose", "tail", "overlay", "encode"]
    assert figures.stages_ms["trunk"].p50 == 14.5
    assert figures.stages_ms["encode"] == Percentiles(None, None, None)
    assert figures.tokens_mean == 1004.5
    assert figures.buckets == {"b40": 6, "b80": 4}


def test_what_the_loop_costs_by_hand(ledger: Ledger) -> None:
    """The choice of a bucket, and what the loop measured of itself: neither fit, overlay nor waiting."""
    loop_ms, graphs_ms = 10 * 0.5 + 9 * 0.25, sum(30.0 + index for index in range(10))
    assert astuple(overhead(ledger)) == pytest.approx((loop_ms / 10, loop_ms / graphs_ms))


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_recomputed_from_the_record(tmp_path: Path, ledger: Ledger, name: str) -> None:
    record = Record(tmp_path / name)
    for index in range(10):
        record.write(row(index))
    record.close()
    again = rows.ledger_of(rows.read(tmp_path / name))
    assert summarise_run(again) == summarise_run(ledger) and overhead(again) == overhead(ledger)


def test_a_run_of_months_is_summed_over_all_and_ranked_over_the_newest_rows() -> None:
    all_rows, newest = Ledger(), Ledger()
    bounded = Ledger(most_rows=8)
    for index in range(24):
        all_rows.add(row(index))
        bounded.add(row(index))
        assert len(bounded) <= 8
    for index in range(16, 24):
        newest.add(row(index))
    figures, exact = summarise_run(bounded), summarise_run(all_rows)
    assert (figures.frames, figures.newest) == (24, 8) and exact.newest == 24
    for name in ("dropped", "fps", "tokens_mean", "buckets"):
        assert getattr(figures, name) == getattr(exact, name), name
    assert figures.latency_ms == summarise_run(newest).latency_ms != exact.latency_ms
    assert figures.stages_ms == summarise_run(newest).stages_ms and overhead(bounded) == overhead(newest)
    assert bounded.capped().sum() == newest.capped().sum() and len(bounded.watts()) == 8


def test_run_of_no_frames() -> None:
    figures = summarise_run(Ledger())
    assert figures.frames == 0 and figures.fps is None and figures.tokens_mean is None
    assert figures.latency_ms == figures.age_ms == Percentiles(None, None, None) and figures.buckets == {}
    assert overhead(Ledger()) == Overhead(None, None)


def test_a_frame_that_is_waited_for_for_days(ledger: Ledger) -> None:
    """As of a time-lapse that is played at its own pace."""
    ledger.add(rows.row(10, wait_ms=3e8))
    assert ledger.ms("wait_ms")[-1] == 3e8


@pytest.mark.parametrize("column", MS_COLUMNS)
def test_a_stage_that_hung_for_minutes_is_held(column: str) -> None:
    """A disk that a drive spins up, a function of the user's own: 214 s were more than 32 bits held, and ended the run."""
    ledger = Ledger()
    ledger.add(rows.row(0, **{column: 300_000.0}))
    assert ledger.ms(column)[-1] == 300_000.0


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_things_are_summed_over_all_rows_and_recomputed_from_the_record(tmp_path: Path, name: str) -> None:
    counts: list[dict[str, int] | None] = [{"car": 2, 'a, "b"': 1}, {}, None, {"car": 4}, {"car": 1}]
    ledger, record = Ledger(most_rows=2), Record(tmp_path / name)
    for index, things in enumerate(counts):
        ledger.add(rows.row(index, things=things))
        record.write(rows.row(index, things=things))
    record.close()
    things_of = summarise_run(ledger).things
    assert things_of == {'a, "b"': ThingFigures(0.25, 1, 1), "car": ThingFigures(7 / 4, 4, 3)}
    assert summarise_run(rows.ledger_of(rows.read(tmp_path / name))).things == things_of
    assert summarise_run(Ledger()).things is None


def test_no_output_is_called_as_a_figure_is() -> None:
    """Both are keys of one object of JSON."""
    figures = {field.name for kind in (RunFigures, RunSummary) for field in fields(kind)}
    assert not {*SINKS} & {*figures, "warm_up"}
