"""Rows of a comparison as if they had been measured."""

from statistics import mean
from typing import Any

from edgeprune.base.statistics import Extremes, Latency
from edgeprune.lab.compare.comparison import ComparedRow, Kind


def measured(
    row: str, kind: Kind, latency_ms: float | None, *mious: float, precision: str = "fp32", **by_seed: list[float]
) -> ComparedRow:
    """A row as `tabulate` gives it, of as many seeds as it has mIoUs. `by_seed`: of other measures, or without mIoUs of
    those of another task."""
    values: dict[Any, list[float]] = ({"miou": list(mious)} if mious else {}) | by_seed
    known: dict[str, Any] = {measure: mean(each) for measure, each in values.items()}
    if latency_ms is not None:
        known |= {"engine": "onnxruntime", "latency_ms": Latency(latency_ms, latency_ms + 1), "bundle": f"rows/{row}"}
    return ComparedRow(
        row=row,
        policy="dense" if kind == "dense" else row,
        kind=kind,
        precision=precision,
        seeds=len(mious) or max(map(len, values.values())),
        points_under_dense=0.0,
        points_spread=Extremes(0, 0),
        by_seed=values,
        parameters=1,
        **known,
    )
