"""What the loop leaves for its viewers."""

import sys
import threading
import time

import pytest

from edgeprune.runtime.page.publisher import LATENCY_BOUNDS_S, MOST_FAULTS, SILENT_S, Publisher
from tests.runtime.loop.fakes import Scripted
from tests.runtime.page.conftest import publish


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(Scripted(0, fps=10))


def test_sums_and_the_newest_frame(publisher: Publisher) -> None:
    assert publisher.shown is None and publisher.silence() == "no frame yet"
    publish(publisher, 0, latency_ms=4.0, dropped=2, tokens=100, bucket="half", fit_ms=1.0)
    publish(publisher, 5, latency_ms=9000.0, dropped=1, tokens=200, bucket="full", fit_ms=2.0)
    taken = publisher.take()
    assert taken.shown is not None and (taken.shown.number, taken.shown.row.index) == (2, 5)
    totals = taken.totals
    assert (totals.frames, totals.dropped, totals.tokens, totals.latency_ms) == (2, 3, 300, 9004.0)
    assert totals.buckets == {"half": 1, "full": 1} and totals.stages_ms["fit"] == 3.0
    assert "encode" not in totals.stages_ms  # it did not run
    assert totals.latencies == {0: 1, len(LATENCY_BOUNDS_S): 1}
    assert [each.dropped for each in taken.recent] == [2, 1] and publisher.silence() is None
    publish(publisher, 6)
    assert totals.frames == 2 and taken.totals.buckets["full"] == 1  # a copy


def test_it_keeps_no_more_than_a_minute_and_some_faults(publisher: Publisher) -> None:
    old_ns = time.monotonic_ns() - 61 * 10**9
    publish(publisher, 0, end_ns=old_ns)
    publish(publisher, 1)
    assert [each.latency_ms for each in publisher.take().recent] == [2.25] and len(publisher._recent) == 1
    for index in range(3 * MOST_FAULTS):
        publisher.warn(f"fault {index}")
    taken = publisher.take()
    assert taken.totals.faults == 3 * MOST_FAULTS and len(taken.faults) == MOST_FAULTS
    assert taken.faults[-1].line == f"fault {3 * MOST_FAULTS - 1}"


def test_a_slow_camera_is_not_silent_between_two_frames(publisher: Publisher) -> None:
    def ago_ns(seconds: float) -> int:
        return time.monotonic_ns() - round(seconds * 1e9)

    publish(publisher, 0, end_ns=ago_ns(SILENT_S + 2))
    assert publisher.silence() == "no frame for 7 s"
    publisher.source.fps = 0.1
    assert publisher.silence() is None
    publish(publisher, 1, end_ns=ago_ns(31))
    assert publisher.silence() == "no frame for 31 s"
    publisher.source.fps = None
    publish(publisher, 2, end_ns=ago_ns(9), latency_ms=4000.0)
    assert publisher.silence() is None


def test_readers_in_other_threads_see_whole_states(publisher: Publisher) -> None:
    """Frames and the sum of their buckets grow together; so a copy never lies between the two."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    done = threading.Event()

    def write() -> None:
        for index in range(2000):
            publish(publisher, index % 6)
        done.set()

    thread = threading.Thread(target=write)
    try:
        thread.start()
        while not done.is_set():
            taken = publisher.take()
            assert taken.totals.frames == sum(taken.totals.buckets.values()) == len(taken.recent)
            assert (taken.shown.number if taken.shown else 0) == taken.totals.frames
    finally:
        thread.join()
        sys.setswitchinterval(before)
