"""The bound on what the page takes, on a clock of the test's own."""

import threading

import pytest

from edgeprune.runtime.page.processor_share import BURST_S, BoundedSelector


class Clock:
    """Time that passes by working and by sleeping."""

    def __init__(self) -> None:
        self.now_s = self.spent_s = 0.0
        self.sleeps: list[float] = []

    def work(self, seconds: float) -> None:
        self.now_s += seconds
        self.spent_s += seconds

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.sleeps.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bounded(clock: Clock, share: float) -> BoundedSelector:
    return BoundedSelector(share, lambda: clock.now_s, lambda: clock.spent_s, clock.sleep)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("round_s", [0.0001, 0.002, 0.02])
def test_work_without_end_takes_its_share(clock: Clock, share: float, round_s: float) -> None:
    selector = bounded(clock, share)
    while clock.now_s < 20:
        selector.select(0)
        clock.work(round_s)
    assert clock.spent_s == pytest.approx(20 * share + BURST_S, rel=0.05)


def test_the_end_waits_for_no_debt(clock: Clock) -> None:
    selector = BoundedSelector(0.0001, lambda: clock.now_s, lambda: clock.spent_s)
    selector.select(0)
    clock.work(1.0)  # of which hours would be slept off
    threading.Timer(0.05, selector.hurry).start()
    selector.select(0)
    selector.select(0)


def test_who_works_little_never_sleeps(clock: Clock) -> None:
    selector = bounded(clock, 0.1)
    for _ in range(1000):
        selector.select(0)
        clock.work(0.001)
        clock.now_s += 0.01  # waiting for a viewer
    assert not clock.sleeps


def test_rest_is_no_store_of_work(clock: Clock) -> None:
    selector = bounded(clock, 0.1)
    selector.select(0)
    clock.now_s += 1000
    spent_s = 0.0
    while not clock.sleeps:
        selector.select(0)
        clock.work(0.001)
        spent_s += 0.001
    assert spent_s == pytest.approx(BURST_S / 0.9, abs=0.003)
