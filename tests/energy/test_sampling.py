import math
from itertools import chain, repeat

import pytest

from edgeprune.energy.sampling import CounterSum, PowerIntegral, SampledMeter


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


def test_counter_without_a_range_does_not_go_back() -> None:
    counter = CounterSum({"gpu0": math.inf})
    counter.add(0, {"gpu0": 7.0})
    with pytest.raises(OSError, match="counter of gpu0 was reset"):
        counter.add(1, {"gpu0": 3.0})


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
