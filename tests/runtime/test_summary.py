"""The summary of a run says what its rows say."""

import csv
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.table import write_csv
from edgeprune.runtime.summary import percentiles, summarise_run


def row(index: int, **other: Any) -> dict[str, Any]:
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
    return {
        "index": index,
        "capture_ns": start_ns - 5_000_000,
        "start_ns": start_ns,
        "end_ns": start_ns + 40_000_000,
        **stages,
        "latency_ms": 31.5 + index,
        "bucket": "b40" if index % 3 else "b80",
        "tokens": 1000.0 + index,
        "dropped": 1 if index == 4 else 0,
        **other,
    }


ROWS = [row(index) for index in range(10)]


def test_summary_by_hand() -> None:
    summary = summarise_run(ROWS)
    assert summary["frames"] == 10 and summary["dropped"] == 1
    assert summary["fps"] == pytest.approx(10 / 0.49)
    assert summary["latency_ms"] == {"p50": 36.0, "p95": pytest.approx(40.05), "p99": pytest.approx(40.41)}
    assert list(summary["stages_ms"]) == ["fit", "trunk", "choose", "tail", "overlay", "encode"]
    assert summary["stages_ms"]["trunk"]["p50"] == 14.5
    assert summary["stages_ms"]["encode"] == {"p50": None, "p95": None, "p99": None}
    assert summary["tokens_mean"] == 1004.5
    assert summary["buckets"] == {"b40": 6, "b80": 4}


def test_recomputed_from_the_csv(tmp_path: Path) -> None:
    write_csv(tmp_path / "frames.csv", ROWS)
    with (tmp_path / "frames.csv").open(newline="") as file:
        assert summarise_run(list(csv.DictReader(file))) == summarise_run(ROWS)


def test_run_of_no_frames() -> None:
    summary = summarise_run([])
    assert summary["frames"] == 0 and summary["fps"] is None and summary["tokens_mean"] is None
    assert summary["latency_ms"] == {"p50": None, "p95": None, "p99": None} and summary["buckets"] == {}


def test_percentiles() -> None:
    assert percentiles([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0}
    assert percentiles(list(range(101))) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
