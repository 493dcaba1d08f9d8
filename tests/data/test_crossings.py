"""Which polygons cross themselves: by a check of every pair of edges in whole numbers, and by hand."""

import numpy as np
import pytest

from edgeprune.data import crossings
from edgeprune.data.crossings import crosses_itself

Point = tuple[int, int]


def side(begin: Point, end: Point, point: Point) -> int:
    return (end[0] - begin[0]) * (point[1] - begin[1]) - (end[1] - begin[1]) * (point[0] - begin[0])


def by_hand(points: list[Point]) -> bool:
    edges = [(points[index], points[(index + 1) % len(points)]) for index in range(len(points))]
    return any(
        side(*one, other[0]) * side(*one, other[1]) < 0 and side(*other, one[0]) * side(*other, one[1]) < 0
        for place, one in enumerate(edges)
        for other in edges[:place]
    )


@pytest.mark.parametrize("pairs", [1, 7, 1 << 18])
def test_every_pair_of_edges_is_looked_at(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At points in whole tens of pixels, where nothing crosses by less than TOUCH_PX."""
    monkeypatch.setattr(crossings, "PAIRS", pairs)
    draw, found = np.random.default_rng(0), []
    for _ in range(120):
        points = [(10 * int(x), 10 * int(y)) for x, y in draw.integers(0, 12, (int(draw.integers(3, 7)), 2))]
        crosses = crosses_itself(np.array(points, np.float64))
        assert crosses == by_hand(points), points
        found.append(crosses)
    assert 20 < sum(found) < 100


def circle(points: int, radius: float = 100) -> np.ndarray:
    angle_N = np.arange(points) * 2 * np.pi / points
    return np.stack((150 + radius * np.cos(angle_N), 150 + radius * np.sin(angle_N)), axis=1)


def test_outlines_and_stars() -> None:
    assert not crosses_itself(circle(5)) and crosses_itself(circle(5)[[0, 2, 4, 1, 3]])
    assert not crosses_itself(circle(4000)) and not crosses_itself(np.round(circle(4000)))  # traced pixel by pixel
    late = circle(4000)
    late[[1000, 3000]] = late[[3000, 1000]]
    assert crosses_itself(late)


def test_bridges_repeated_points_and_touching_corners_are_no_crossings() -> None:
    outline, hole = (
        [(0, 0), (60, 0), (60, 60), (0, 60), (0, 0)],
        [(20.3, 20.1), (40, 20), (40, 40), (20, 40), (20.3, 20.1)],
    )
    assert not crosses_itself(np.array([*outline, *hole], np.float64))
    assert not crosses_itself(np.array([(0, 0), (0, 0), (5, 0), (5, 5), (5, 5)], np.float64))
    assert not crosses_itself(np.array([(0, 0), (10, 10), (20, 0), (20, 20), (10, 10), (0, 20)], np.float64))
    assert not crosses_itself(np.array([(0, 0), (10, 0), (10, 0.02), (5, -0.02), (5, 8)], np.float64))  # rounding
    assert not crosses_itself(np.array([(3, 3)] * 4, np.float64))


def test_points_beyond_all_bounds() -> None:
    crosses_itself(np.array([(0, -1e308), (10, 1e308), (-1e308, 1e308), (1e308, 0)], np.float64))
