"""Figures of a run that stand beside those of `runtime.summary`: energy per frame, and what the loop itself costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.runtime.meters import Energy


def energy_per_frame(energy: Energy, frames: int, idle_w: Mapping[str, float] | None) -> dict[str, Any]:
    """`status`, `mj_per_frame` gross and `mj_per_frame_above_idle` (None without a sensor or an idle measurement),
    `rails` {name: mJ per frame}, `total_of` (the rails that are summed), `samples`, `seconds`, `sampling_hz`.

    No figure of a frame where time was left out: the frames in it are counted, their energy isn't."""
    above_idle_j = energy.above_idle_j(idle_w) if idle_w else None

    def per_frame(joules: float | None) -> float | None:
        return 1000 * joules / frames if joules is not None and frames and not energy.left_out_s else None

    return {
        "status": energy.status,
        "mj_per_frame": per_frame(energy.total_j),
        "mj_per_frame_above_idle": per_frame(above_idle_j),
        "rails": {rail: per_frame(joules) for rail, joules in energy.joules.items()},
        "total_of": list(energy.total_of),
        "samples": energy.samples,
        "seconds": energy.seconds,
        "sampling_hz": energy.sampling_hz,
    }


def overhead(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """What the loop itself costs: everything but graphs, waiting for a frame (decoding), overlay and encoding.

    Args:
        rows: of a ledger, or of a record with its cells as numbers.

    Returns:
        `ms_per_frame`, and `share_of_graphs`, the quotient of that and the time in trunk and tail.
    """
    graphs_ms = loop_ms = 0.0
    before: Mapping[str, Any] | None = None
    for row in rows:
        in_graphs_ms = row["trunk_ms"] + row["tail_ms"]
        graphs_ms += in_graphs_ms
        loop_ms += row["latency_ms"] - in_graphs_ms
        if before is not None:
            shown_ms = (before["overlay_ms"] or 0.0) + (before["encode_ms"] or 0.0)
            loop_ms += (row["start_ns"] - before["end_ns"]) / 1e6 - shown_ms - row["wait_ms"]
        before = row
    if not graphs_ms:
        return {"ms_per_frame": None, "share_of_graphs": None}
    return {"ms_per_frame": loop_ms / len(rows), "share_of_graphs": loop_ms / graphs_ms}
