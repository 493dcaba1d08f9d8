"""Whether a polygon crosses itself, which the even-odd rule turns into holes.

Shapes: N points and as many edges, edge n from point n to the next; P pairs of edges.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edgeprune.data.polygons import Floats

TOUCH_PX = 0.05  # two edges that cross by less touch: outlines are rounded, and a bridge to a hole goes there and back
PAIRS = 1 << 18  # that are looked at at once
MOST_PAIRS = 1 << 24  # of a polygon; one of an outline of 10,000 pixels has some hundred thousand
Ints = npt.NDArray[np.int64]


def crosses_itself(points_N2: Floats) -> bool:
    """Whether two edges of a polygon cross, so that each has both its ends more than TOUCH_PX off the line of the other, on
    either side of it. Of more than MOST_PAIRS pairs of edges with columns in common the first are looked at.

    Args:
        points_N2: x, y in pixels.
    """
    begin_N2, end_N2 = points_N2, np.roll(points_N2, -1, axis=0)
    low_N2, high_N2 = np.minimum(begin_N2, end_N2), np.maximum(begin_N2, end_N2)
    order_N = np.argsort(low_N2[:, 0], kind="stable")
    begin_N2, end_N2, low_N2, high_N2 = (each[order_N] for each in (begin_N2, end_N2, low_N2, high_N2))
    for one_P, other_P in _with_columns_in_common(low_N2[:, 0], high_N2[:, 0]):
        level_P = (low_N2[one_P, 1] < high_N2[other_P, 1]) & (low_N2[other_P, 1] < high_N2[one_P, 1])
        ours, theirs = one_P[level_P], other_P[level_P]
        one, other = (begin_N2[ours], end_N2[ours]), (begin_N2[theirs], end_N2[theirs])
        with np.errstate(over="ignore", invalid="ignore"):  # of points at 1e300
            if (_divides(*one, *other) & _divides(*other, *one)).any():
                return True
    return False


def _with_columns_in_common(low_N: Floats, high_N: Floats) -> Iterator[tuple[Ints, Ints]]:
    """The pairs of edges whose ranges from `low_N`, ascending, to `high_N` have something in common, about PAIRS at once."""
    number_N = np.arange(len(low_N))
    counts_N = np.maximum(
        np.searchsorted(low_N, high_N) - number_N - 1, 0
    )  # those behind an edge that begin before it ends
    total_N = np.cumsum(counts_N)
    start = 0
    while start < len(low_N) and (done := int(total_N[start] - counts_N[start])) < MOST_PAIRS:
        stop = max(start + 1, int(np.searchsorted(total_N, done + PAIRS, "right")))
        counts_n = counts_N[start:stop]
        one_P = np.repeat(number_N[start:stop], counts_n)
        within_P = np.arange(len(one_P)) - np.repeat(np.cumsum(counts_n) - counts_n, counts_n)
        yield one_P, one_P + 1 + within_P
        start = stop


def _divides(begin_P2: Floats, end_P2: Floats, one_P2: Floats, other_P2: Floats) -> npt.NDArray[np.bool_]:
    """Whether the line of each edge passes between the two points, more than TOUCH_PX from both."""
    along_P2 = end_P2 - begin_P2
    length_P = np.maximum(np.hypot(along_P2[:, 0], along_P2[:, 1]), 1e-12)
    one_P, other_P = (
        (along_P2[:, 0] * (each[:, 1] - begin_P2[:, 1]) - along_P2[:, 1] * (each[:, 0] - begin_P2[:, 0])) / length_P
        for each in (one_P2, other_P2)
    )
    return (np.minimum(one_P, other_P) < -TOUCH_PX) & (np.maximum(one_P, other_P) > TOUCH_PX)
