"""Results as if they had been measured."""

from collections.abc import Sequence

from edgeprune.base.statistics import Extremes, Latency
from edgeprune.evaluate.accuracy import AccuracyRow
from edgeprune.evaluate.bench import BenchResult, BenchRow
from edgeprune.evaluate.tasks import METRICS

FIGURES = METRICS["semantic"].brief


def bench_row(
    graph: str, bucket: str | None, precision: str, p50_ms: float, engine: str = "onnxruntime", peak_mb: float = 100
) -> BenchRow:
    """A row of `bench`, as fast as dense."""
    taken_ms, none = Latency(p50_ms, p50_ms), Extremes(1.0, 1.0)
    return BenchRow(graph, bucket, precision, engine, taken_ms, 1.0, none, None, peak_mb, dict.fromkeys(FIGURES), {})


def bench_result(rows: Sequence[BenchRow]) -> BenchResult:
    """What `bench` answers."""
    return BenchResult(1, 1, 1, "nowhere", "no energy sensor", 0.1, {}, {}, list(rows))


def accuracy_row(bucket: str, precision: str, miou: float, engine: str = "onnxruntime") -> AccuracyRow:
    """A row of `evaluate`."""
    return AccuracyRow(bucket, precision, engine, 1, 1.0, {"miou": miou})
