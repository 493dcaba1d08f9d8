"""Timings that are not to be relied on: what is chosen by them may be chosen by chance, as on a machine that is busy."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

SCATTER = 0.25  # of a time; on a quiet machine rounds lie apart by a tenth


class Timed(NamedTuple):
    """A time, and how far the timings that it is the median of lie apart."""

    what: str
    ms: float
    spread_ms: float


def scattered(timed: Sequence[Timed]) -> str | None:
    """The time that scatters most, in words, where it scatters by more than SCATTER."""
    worst = max(timed, key=lambda each: each.spread_ms / each.ms if each.ms else 0.0, default=None)
    if worst is None or worst.spread_ms <= SCATTER * worst.ms:
        return None
    return f"timings of {worst.what} scatter by {worst.spread_ms:.1f} ms around {worst.ms:.1f}"


def out_of_order(timed: Sequence[Timed]) -> str | None:
    """What is larger and all the same faster than something smaller, by more than the spread of either, in words.

    Args:
        timed: the smallest first.
    """
    for smaller, larger in combinations(timed, 2):
        if smaller.ms - larger.ms > max(smaller.spread_ms, larger.spread_ms):
            return f"{smaller.what} took {smaller.ms:.1f} ms and {larger.what}, which is larger, {larger.ms:.1f}"
    return None
