"""Figures of many values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Percentiles:
    """50th, 95th and 99th percentile, in the unit of the values; None of no values."""

    p50: float | None
    p95: float | None
    p99: float | None


def percentiles(values: Sequence[float] | npt.NDArray[np.float64]) -> Percentiles:
    """Percentiles of the values, linear between neighbours."""
    if not len(values):
        return Percentiles(None, None, None)
    return Percentiles(*np.percentile(values, [50, 95, 99]).tolist())


@dataclass(frozen=True)
class Latency:
    """Median and 95th percentile of times, in milliseconds."""

    p50: float
    p95: float


def latency(rounds_ms: Iterable[Sequence[float]]) -> Latency:
    """The latency over the times of all rounds, linear between them."""
    return Latency(*np.percentile(np.concatenate(list(rounds_ms)), [50, 95]).tolist())


class Extremes(NamedTuple):
    """The smallest and the largest of several values: how far rounds, or seeds, lie apart."""

    least: float
    most: float


def extremes(values: Sequence[float]) -> Extremes:
    """The extremes of at least one value."""
    return Extremes(min(values), max(values))


@dataclass(frozen=True)
class Ratio:
    """A quotient over rounds: its median, and its extremes."""

    median: float
    extremes: Extremes


def ratio_by_round(above_ms: Iterable[Sequence[float]], below_ms: Iterable[Sequence[float]]) -> Ratio:
    """The quotient of two median times within each round: what slows a machine down for a while slows both alike."""
    ratios = [median(above) / median(below) for above, below in zip(above_ms, below_ms, strict=True)]
    return Ratio(median(ratios), extremes(ratios))


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, worth) that no other matches in worth at the same or a lower cost, cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, worth in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or worth > front[-1][1]:
            front.append((cost, worth))
    return front
