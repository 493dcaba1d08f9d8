import math
import time
from collections.abc import Callable
from itertools import chain, repeat

import pytest

from edgeprune.runtime.figures import energy_per_frame
from edgeprune.runtime.meters import Energy
from edgeprune.runtime.meters.sampling import STALE_S, CounterSum, PowerIntegral, SampledMeter


def test_trapezoid_of_a_ramp_at_uneven_times() -> None:
    integral = PowerIntegral()
    for time_s in (10.0, 10.5, 12.0):
        integral.add(time_s, {"VDD_IN": 4 * (time_s - 10), "VDD_SOC": 1.0})
    assert integral.joules == pytest.approx({"VDD_IN": 8.0, "VDD_SOC": 2.0})  # 4 W/s over 2 s: 4 * 2**2 / 2
    assert (integral.samples, integral.seconds) == (3, 2.0)


def test_counter_wraps_once_and_again() -> None:
    counter = CounterSum({"package-0": 100.0})
    for time_s, counted in enumerate((90.0, 95.0, 10.0, 99.0, 1.0)):
        counter.add(time_s, {"package-0": counted})
    assert counter.joules["package-0"] == pytest.approx(5 + 15 + 89 + 2)
    assert counter.left_out_s == 0 and counter.seconds == 4


def test_counter_that_was_reset_is_no_wrap() -> None:
    """A package at 1500 J of 262144 J is suspended: a wrap would have been 26 kW. Only its interval is left out."""
    counter = CounterSum({"package-0": 262144.0, "dram": 65536.0})
    for time_s, package, dram in ((0, 1000.0, 10.0), (10, 1500.0, 20.0), (20, 40.0, 30.0), (30, 90.0, 40.0)):
        counter.add(time_s, {"package-0": package, "dram": dram})
    assert counter.joules == pytest.approx({"package-0": 500 + 50, "dram": 10 + 10})
    assert (counter.seconds, counter.left_out_s) == (20, 10)
    assert counter.left_out_why == "the energy counter of package-0 was reset"


@pytest.mark.parametrize("before", [262100.0, 258000.0])  # 6 W and 416 W
def test_counter_near_its_range_wraps(before: float) -> None:
    counter = CounterSum({"package-0": 262144.0})
    counter.add(0, {"package-0": before})
    counter.add(10, {"package-0": 16.0})
    assert counter.joules["package-0"] == pytest.approx(262144.0 - before + 16) and counter.left_out_s == 0


@pytest.mark.parametrize("range_j", [math.inf, 5.0])  # without a range, and beyond the one that it names
def test_counter_without_a_range_does_not_wrap(range_j: float) -> None:
    counter = CounterSum({"gpu0": range_j})
    counter.add(0, {"gpu0": 9.0})
    counter.add(1, {"gpu0": 3.0})
    assert counter.joules == {"gpu0": 0.0} and (counter.seconds, counter.left_out_s) == (0, 1)


def counted(readings: list[float]) -> Energy:
    """What a meter of one counter says of these readings, one second apart."""
    script = iter(readings)
    taken = SampledMeter(
        "fake", "counted", lambda: {"gpu0": next(script)}, lambda: CounterSum({"gpu0": math.inf}), 1e9, ["gpu0"]
    )
    taken.start()
    for time_s, reading in enumerate(readings[1:-1], 1):
        taken._sum.add(taken._sum._before[0] + 1 if taken._sum._before else time_s, {"gpu0": next(script)})
        assert reading is not None
    return taken.stop()


def test_a_measurement_with_a_reset_has_no_total_and_says_why() -> None:
    energy = counted([5.0, 1.0, 4.0])
    assert energy.total_j is None and energy.left_out_s == pytest.approx(1.0)
    assert energy.joules == {"gpu0": 3.0}
    assert "; 1.0 s of " in energy.status and energy.status.endswith("left out: the energy counter of gpu0 was reset")
    figures = energy_per_frame(energy, 10, None)
    assert figures.mj_per_frame is None and figures.rails == {"gpu0": None}


def test_a_measurement_that_was_all_reset_is_none() -> None:
    energy = counted([5.0, 1.0])
    assert energy.status == "no energy sensor: the energy counter of gpu0 was reset while it was measured"
    assert (energy.joules, energy.total_j) == ({}, None)


def meter(readings: list[float | Exception]) -> SampledMeter:
    """A meter whose sensor gives these in turn, and the last one for ever."""
    script = chain(readings, repeat(readings[-1]))

    def read() -> dict[str, float]:
        value = next(script)
        if isinstance(value, Exception):
            raise value
        return {"VDD_IN": value}

    return SampledMeter("fake", "measured", read, PowerIntegral, 0.001, ["VDD_IN"])


def test_reading_that_fails_is_bridged() -> None:
    fake = meter([5.0, OSError("busy"), ValueError("empty"), 5.0])
    fake.start()
    while fake._sum.samples < 3:
        pass
    energy = fake.stop()
    assert energy.status == "measured"
    assert energy.total_j == pytest.approx(5.0 * energy.seconds)
    assert energy.sampling_hz == pytest.approx((energy.samples - 1) / energy.seconds)


@pytest.mark.parametrize("readings", [[5.0, OSError("No such device")], [OSError("No such device")]])
def test_sensor_that_stops_answering_gives_no_number(readings: list[float | Exception]) -> None:
    fake = meter(readings)
    fake.start()
    energy = fake.stop()
    assert energy.status == "no energy sensor: fake stopped answering (No such device)"
    assert (energy.joules, energy.total_j) == ({}, None)


def test_a_meter_measures_again_from_zero() -> None:
    fake = meter([5.0])
    for _ in range(2):
        fake.start()
        energy = fake.stop()
        assert energy.total_j == pytest.approx(5.0 * energy.seconds)


# --- watts(): what is taken now, without being stopped ---


def wait_until(true: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + 10
    while not true():
        assert time.monotonic() < limit_s
        time.sleep(0.001)


def test_power_is_told_while_it_is_measured() -> None:
    fake = meter([5.0])
    assert fake.watts() is None  # nothing is measured yet
    fake.start()
    wait_until(lambda: fake.watts() is not None)
    assert fake.watts() == pytest.approx(5.0)
    fake.stop()
    assert fake.watts() is None
    fake.start()
    wait_until(lambda: fake.watts() is not None)
    fake.stop()


def test_power_of_the_last_second_alone() -> None:
    """2 W for 10 s, then 8 W: a second later nothing of the 2 W is left, and the whole is untouched by that."""
    integral = PowerIntegral()
    for tick in range(1001):
        integral.add(tick / 100, {"VDD_IN": 2.0, "VDD_SOC": 1.0})
    assert integral.recent_w(["VDD_IN", "VDD_SOC"], 10.0) == pytest.approx(3.0)
    for tick in range(1001, 1051):
        integral.add(tick / 100, {"VDD_IN": 8.0, "VDD_SOC": 1.0})
    assert integral.recent_w(["VDD_IN"], 10.5) == pytest.approx(5.0, rel=0.02)
    for tick in range(1051, 1102):
        integral.add(tick / 100, {"VDD_IN": 8.0, "VDD_SOC": 1.0})
    assert integral.recent_w(["VDD_IN"], 11.01) == pytest.approx(8.0)
    assert integral.joules["VDD_IN"] == pytest.approx(2 * 10 + 8 * 1.01, rel=0.002)


def test_power_of_a_counter_that_wraps() -> None:
    counter = CounterSum({"package-0": 100.0})
    for time_s, counted in ((0.0, 98.0), (0.5, 99.5), (1.0, 1.0), (1.5, 4.0)):
        counter.add(time_s, {"package-0": counted})
    assert counter.recent_w(["package-0"], 1.5) == pytest.approx((1.5 + 3.0) / 1.0)


def test_power_of_a_sensor_that_is_read_every_two_seconds() -> None:
    integral = PowerIntegral()
    for time_s, power_w in ((0.0, 1.0), (2.0, 3.0), (4.0, 5.0)):
        integral.add(time_s, {"wall": power_w})
    assert integral.recent_w(["wall"], 5.9) == pytest.approx(
        4.0
    )  # the newest interval, though it is longer than a second


def test_no_power_without_a_total_or_of_a_sensor_that_is_lost() -> None:
    integral = PowerIntegral()
    integral.add(0.0, {"VDD_IN": 5.0})
    assert integral.recent_w(["VDD_IN"], 0.0) is None  # of one reading no interval is known
    integral.add(0.5, {"VDD_IN": 5.0})
    assert integral.recent_w([], 0.5) is None
    assert integral.recent_w(["VDD_IN"], 0.5 + STALE_S) == 5.0
    assert integral.recent_w(["VDD_IN"], 0.6 + STALE_S) is None
    at_once = PowerIntegral()
    for _ in range(2):
        at_once.add(1.0, {"VDD_IN": 5.0})  # two readings, no time between
    assert at_once.recent_w(["VDD_IN"], 1.0) is None


def test_power_is_asked_from_another_thread_all_the_time() -> None:
    """Neither the thread that samples nor the one that asks ever sees the other's half."""
    fake = meter([5.0])
    fake.start()
    wait_until(lambda: fake.watts() is not None)
    answers = {fake.watts() for _ in range(20_000)}
    energy = fake.stop()
    assert all(answer == pytest.approx(5.0) for answer in answers)
    assert energy.total_j == pytest.approx(5.0 * energy.seconds)
