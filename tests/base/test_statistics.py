from edgeprune.base.statistics import Percentiles, percentiles


def test_percentiles() -> None:
    assert percentiles([3.0]) == Percentiles(3.0, 3.0, 3.0)
    assert percentiles(list(range(101))) == Percentiles(50.0, 95.0, 99.0)
    assert percentiles([]) == Percentiles(None, None, None)
