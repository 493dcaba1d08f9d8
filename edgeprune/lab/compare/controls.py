"""Each pruned row beside what a user would run instead: a dense model of fewer blocks or a lower input, as fast as it is."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from edgeprune.base.statistics import extremes, pareto_front
from edgeprune.lab.compare.comparison import ComparedRow


def add_controls(rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    """The rows, each with its mIoU (or mask AP) less that of a dense model of its latency, for each seed that it and all dense
    rows have.

    That dense model lies between two of the plan's (fewer blocks, lower input), by linear interpolation along those that no
    other dense row beats in both. None for dense rows, for what was not timed, and where no dense row is as fast.
    """
    return [_with_controls(row, [each for each in rows if each.key == row.key]) for row in rows]


def _with_controls(row: ComparedRow, alike: Sequence[ComparedRow]) -> ComparedRow:
    if row.kind == "dense" or row.latency_ms is None:
        return row
    dense = [(each.latency_ms.p50, each.main) for each in alike if each.kind == "dense" and each.latency_ms]
    shared = min(len(by_seed) for by_seed in (row.main, *(by_seed for _, by_seed in dense)))
    over = []
    for seed, accuracy in enumerate(row.main[:shared]):
        control = front_at([(p50, by_seed[seed]) for p50, by_seed in dense], row.latency_ms.p50)
        over += [] if control is None else [100 * (accuracy - control)]
    if not over:
        return row
    return replace(row, points_over_controls=statistics.mean(over), controls_spread=extremes(over))


def front_at(points: Sequence[tuple[float, float]], latency_ms: float) -> float | None:
    """Accuracy at a latency along the (latency, accuracy) that no other point beats in both; None under the fastest."""
    front = pareto_front(points)
    if not front or latency_ms < front[0][0]:
        return None
    for (left, low), (right, high) in pairwise(front):
        if latency_ms < right:
            return low + (high - low) * (latency_ms - left) / (right - left)
    return front[-1][1]
