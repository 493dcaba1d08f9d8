"""What a comparison says: each row against the dense models of its latency, and which row to deploy."""

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from edgeprune.lab.compare.plan import DENSE

Row = dict[str, Any]


def add_controls(rows: Sequence[Row]) -> None:
    """Gives each row `points_over_controls` and `controls_spread` [min, max] over the seeds: its mIoU less that of a dense
    model of its latency, which lies between two of the plan's (fewer blocks, lower input), by linear interpolation along
    those that no other dense row beats in both. None for dense rows, for what was not timed, and where no dense row is as fast.
    """
    for row in rows:
        row["points_over_controls"] = row["controls_spread"] = None
        if row["policy"] == DENSE or row["latency_ms"] is None:
            continue
        alike = [each for each in rows if _key(each) == _key(row) and each["policy"] == DENSE]
        over = []
        for seed, miou in enumerate(row["miou_by_seed"]):
            dense = [(each["latency_ms"]["p50"], each["miou_by_seed"][seed]) for each in alike]
            control = front_at(dense, row["latency_ms"]["p50"])
            over += [] if control is None else [100 * (miou - control)]
        if over:
            row |= {"points_over_controls": statistics.mean(over), "controls_spread": [min(over), max(over)]}


def front_at(points: Sequence[tuple[float, float]], latency: float) -> float | None:
    """mIoU at a latency along the (latency, mIoU) that no other point beats in both; None under the fastest."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    if not front or latency < front[0][0]:
        return None
    for (left, low), (right, high) in pairwise(front):
        if latency < right:
            return low + (high - low) * (latency - left) / (right - left)
    return front[-1][1]


def pick(rows: Sequence[Row], limit_points: float) -> list[Row]:
    """Of each engine and precision the fastest row that is at most `limit_points` under dense (mean over the seeds): dense
    itself where nothing else is."""
    timed = [row for row in rows if row["latency_ms"] is not None]
    picked = []
    for key in dict.fromkeys(map(_key, timed)):
        fit = [row for row in timed if _key(row) == key and row["points_under_dense"] <= limit_points]
        picked.append(min(fit, key=lambda row: row["latency_ms"]["p50"]))
    return picked


def _key(row: Row) -> tuple[str, str]:
    return row["precision"], row["engine"]
