"""Figures of a run that stand beside those of `runtime.summary`: energy per frame, and what the loop itself costs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeprune.runtime.meters import Energy
from edgeprune.runtime.row import Ledger


@dataclass(frozen=True)
class EnergyPerFrame:
    """Millijoules of a frame; None without a sensor, and above idle without an idle measurement.

    Attributes:
        status: as of `Energy`.
        idle_w: watts that the rails of the total take when idle; None where that was not measured.
        rails: of each rail.
        total_of: the rails that are summed.
        samples, seconds, sampling_hz: as of `Energy`.
    """

    status: str
    mj_per_frame: float | None
    mj_per_frame_above_idle: float | None
    idle_w: float | None
    rails: dict[str, float | None]
    total_of: list[str]
    samples: int
    seconds: float
    sampling_hz: float | None


@dataclass(frozen=True)
class Overhead:
    """What the loop itself costs, in all of its threads: everything but waiting for a frame (decoding), fit, graphs, overlay
    and encoding.

    Attributes:
        ms_per_frame: milliseconds; None without a frame.
        share_of_graphs: the quotient of that and the time in trunk and tail.
    """

    ms_per_frame: float | None
    share_of_graphs: float | None


def energy_per_frame(energy: Energy, frames: int, idle_w: Mapping[str, float] | None) -> EnergyPerFrame:
    """Energy over frames. No figure of a frame where time was left out: the frames in it are counted, their energy isn't."""
    of_total = [idle_w[rail] for rail in energy.total_of if rail in idle_w] if idle_w else []
    above_idle_j = energy.above_idle_j(idle_w) if idle_w else None

    def per_frame(joules: float | None) -> float | None:
        return 1000 * joules / frames if joules is not None and frames and not energy.left_out_s else None

    return EnergyPerFrame(
        status=energy.status,
        mj_per_frame=per_frame(energy.total_j),
        mj_per_frame_above_idle=per_frame(above_idle_j),
        idle_w=sum(of_total) if of_total and len(of_total) == len(energy.total_of) else None,
        rails={rail: per_frame(joules) for rail, joules in energy.joules.items()},
        total_of=list(energy.total_of),
        samples=energy.samples,
        seconds=energy.seconds,
        sampling_hz=energy.sampling_hz,
    )


def overhead(rows: Ledger) -> Overhead:
    """What the loop costs: the choice of a bucket, and what stands in `loop_ms`."""
    graphs_ms = float((rows.ms("trunk_ms") + rows.ms("tail_ms")).sum())
    if not graphs_ms:
        return Overhead(None, None)
    loop_ms = float((rows.ms("choose_ms") + np.nan_to_num(rows.ms("loop_ms"))).sum())
    return Overhead(loop_ms / len(rows), loop_ms / graphs_ms)
