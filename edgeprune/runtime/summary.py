"""The figures of a run, recomputed from its per-frame rows alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STAGES = ("fit", "trunk", "choose", "tail", "overlay", "encode")


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """50th, 95th and 99th percentile, linear between values; None of no values."""
    points = np.percentile(values, [50, 95, 99]).tolist() if len(values) else [None] * 3
    return dict(zip(("p50", "p95", "p99"), points, strict=True))


def summarise_run(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summary of a run.

    Args:
        rows: one per processed frame, as recorded or as read back from its CSV (numbers as text are fine):
            `start_ns`, `end_ns` (monotonic clock), `latency_ms` (frame in hand to labels in hand), `fit_ms`,
            `trunk_ms`, `choose_ms`, `tail_ms`, `overlay_ms`, `encode_ms` (None or "" where the stage did not run),
            `bucket`, `tokens` (processed, summed over the blocks), `dropped` (frames lost since the row before).

    Returns:
        `frames`, `dropped`, `fps` (frames over the time from the first start to the last end), `latency_ms` and for
        each stage `stages_ms` {p50, p95, p99}, `tokens_mean` per frame, `buckets` {name: frames}. None where no row
        tells.
    """
    seconds = (float(rows[-1]["end_ns"]) - float(rows[0]["start_ns"])) / 1e9 if rows else 0.0
    return {
        "frames": len(rows),
        "dropped": sum(int(row["dropped"]) for row in rows),
        "fps": len(rows) / seconds if seconds > 0 else None,
        "latency_ms": percentiles(_column(rows, "latency_ms")),
        "stages_ms": {stage: percentiles(_column(rows, f"{stage}_ms")) for stage in STAGES},
        "tokens_mean": float(np.mean(_column(rows, "tokens"))) if rows else None,
        "buckets": dict(sorted(Counter(str(row["bucket"]) for row in rows).items())),
    }


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [float(row[key]) for row in rows if row.get(key) not in (None, "")]
