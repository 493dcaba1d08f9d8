"""Figures of many values."""

import pytest

from edgeprune.base.statistics import latency, pareto_front, percentiles, ratio_by_round


def test_percentiles_lie_between_values() -> None:
    found = percentiles([1.0, 2.0, 3.0])
    assert (found.p50, found.p95) == (2.0, pytest.approx(2.9))
    assert percentiles([]).p50 is None


def test_latency_is_over_all_rounds() -> None:
    found = latency([[1.0, 3.0], [2.0]])
    assert (found.p50, found.p95) == (2.0, pytest.approx(2.9))


def test_a_ratio_is_taken_within_each_round() -> None:
    """A machine that slows down for a round slows both."""
    found = ratio_by_round([[10, 12, 90], [100, 120, 130], [11, 11, 11]], [[4, 4, 4], [40, 30, 60], [5, 5.5, 6]])
    assert (found.median, found.extremes) == (3, (2, 3))


def test_pareto_front() -> None:
    points = [(3.0, 5.0), (1.0, 2.0), (2.0, 2.0), (2.0, 4.0), (4.0, 4.5)]
    assert pareto_front(points) == [(1.0, 2.0), (2.0, 4.0), (3.0, 5.0)]
