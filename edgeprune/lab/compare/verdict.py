"""What a comparison says: each row against the dense models of its latency, and which row to deploy."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from edgeprune.base.statistics import Extremes, Latency, extremes, pareto_front
from edgeprune.lab.compare.plan import DENSE


@dataclass(frozen=True)
class ComparedRow:
    """A row of the plan in one precision on one engine: means over the seeds. None where unknown.

    Attributes:
        miou: 0 to 1.
        points_under_dense: mIoU of the dense row less its own, paired by seed.
        boundary_f, token_share, gmacs: of a frame; `gmacs` in 1e9 multiply-adds.
        parameters: of the network, quantizers not counted.
        note: why the method has no graphs, and so no times.
        speedup_vs_dense: over the dense row of the same precision and engine, the median over the rounds.
        points_over_controls: its mIoU less that of a dense model of its latency, see `add_controls`.
        points_spread, speedup_spread, controls_spread: the extremes, over seeds or rounds.
    """

    row: str
    policy: str
    precision: str
    seeds: int
    miou: float
    miou_by_seed: list[float]
    points_under_dense: float
    points_spread: Extremes
    boundary_f: float | None
    token_share: float | None
    gmacs: float | None
    parameters: int
    note: str | None
    engine: str | None = None
    latency_ms: Latency | None = None
    speedup_vs_dense: float | None = None
    speedup_spread: Extremes | None = None
    points_over_controls: float | None = None
    controls_spread: Extremes | None = None

    @property
    def key(self) -> tuple[str, str | None]:
        """What rows that are held against each other have in common."""
        return self.precision, self.engine


@dataclass(frozen=True)
class PickedRow(ComparedRow):
    """A row that is to be deployed, and the folder of its bundle."""

    bundle: str = field(kw_only=True)


def add_controls(rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    """The rows, each with its mIoU less that of a dense model of its latency, for each seed.

    That dense model lies between two of the plan's (fewer blocks, lower input), by linear interpolation along those that no
    other dense row beats in both. None for dense rows, for what was not timed, and where no dense row is as fast.
    """
    return [_with_controls(row, [each for each in rows if each.key == row.key]) for row in rows]


def _with_controls(row: ComparedRow, alike: Sequence[ComparedRow]) -> ComparedRow:
    if row.policy == DENSE or row.latency_ms is None:
        return row
    over = []
    for seed, miou in enumerate(row.miou_by_seed):
        dense = [
            (each.latency_ms.p50, each.miou_by_seed[seed]) for each in alike if each.policy == DENSE and each.latency_ms
        ]
        control = front_at(dense, row.latency_ms.p50)
        over += [] if control is None else [100 * (miou - control)]
    if not over:
        return row
    return replace(row, points_over_controls=statistics.mean(over), controls_spread=extremes(over))


def front_at(points: Sequence[tuple[float, float]], latency_ms: float) -> float | None:
    """mIoU at a latency along the (latency, mIoU) that no other point beats in both; None under the fastest."""
    front = pareto_front(points)
    if not front or latency_ms < front[0][0]:
        return None
    for (left, low), (right, high) in pairwise(front):
        if latency_ms < right:
            return low + (high - low) * (latency_ms - left) / (right - left)
    return front[-1][1]


def pick(rows: Sequence[ComparedRow], limit_points: float) -> list[ComparedRow]:
    """Of each engine and precision the fastest row that is at most `limit_points` under dense (mean over the seeds): dense
    itself where nothing else is."""
    timed = [(row.latency_ms.p50, row) for row in rows if row.latency_ms is not None]
    picked = []
    for key in dict.fromkeys(row.key for _, row in timed):
        fit = [(p50, row) for p50, row in timed if row.key == key and row.points_under_dense <= limit_points]
        picked.append(min(fit, key=lambda each: each[0])[1])
    return picked
