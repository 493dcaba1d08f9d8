"""Energy of traces whose energy is known, through the meters' loop and sums: off by less than 0.5%, or no figure."""

import math
import random
from itertools import pairwise, product
from typing import Any

import pytest

from edgeprune.runtime.meters import Energy
from edgeprune.runtime.meters.ina3221 import SAMPLING_HZ
from edgeprune.runtime.meters.sampling import Measurement, SampledMeter, energy_of
from edgeprune.runtime.meters.sums import GAP_PERIODS, MOST_ERROR, CounterSum, PowerIntegral
from tests.runtime.meters.traces import BadSensor, Trace, bursts, pieces, ramp, sine, square, step

SECONDS = 90.0  # three windows of `edgeprune energy`
TRACES = {
    "step": step(31.4159, 5, 11),
    "ramp": ramp(3, 0.1),
    "slow sine": sine(8, 5, 0.3),
    "slow square": square(0.37, 0.4, 4, 12),
    "bursts": bursts(5, SECONDS + 1, 5, 15),
    **{f"{hz} frames a second": square(hz, duty, 5, 10) for hz, duty in ((7.3, 0.3), (15, 0.6), (24, 0.5), (25, 0.3))},
    **{
        f"{hz} frames a second": square(hz, duty, 5, 10) for hz, duty in ((29.97, 0.4), (30, 0.7), (50, 0.3), (60, 0.8))
    },
}
SENSORS: dict[str, dict[str, Any]] = {
    "exact": {},
    "late": {"late_s": 1e-4, "reading_s": 1e-3},
    "often late": {"late_s": 1e-4, "gap": (0.02, 0.002, 0.03), "reading_s": 5e-4},
    "with gaps": {"late_s": 1e-4, "gap": (0.002, 0.1, 0.3)},
    "losing readings": {"late_s": 1e-4, "lost": 0.05},
    "of a coarse clock": {"tick_s": 0.001},
}


def measured(sensor: BadSensor, hz: float = SAMPLING_HZ) -> Energy:
    """What the meter says, run to its end on the sensor's clock."""
    total_of = ["VDD_IN"]
    new_sum = lambda: PowerIntegral(GAP_PERIODS / hz)  # noqa: E731
    meter = SampledMeter("fake", "measured", sensor.read, new_sum, 1 / hz, total_of, sensor)
    measurement = Measurement(new_sum())
    meter._take_all(measurement)
    return energy_of(measurement.taken, "measured", total_of)


def off_by(energy: Energy, sensor: BadSensor) -> float:
    assert energy.total_j is not None
    return energy.total_j / (sensor.trace.joules(sensor.time_s) - sensor.trace.joules(sensor.began_s)) - 1


def test_the_traces_have_the_energy_that_they_say() -> None:
    """Held against a sum of a hundred thousand slices."""
    for name, trace in TRACES.items():
        slices = 100_000
        summed = sum(trace.watts((each + 0.5) * SECONDS / slices) for each in range(slices)) * SECONDS / slices
        assert summed == pytest.approx(trace.joules(SECONDS), rel=2e-4), name


@pytest.mark.parametrize("kind", SENSORS)
@pytest.mark.parametrize("name", TRACES)
def test_energy_is_off_by_less_than_half_a_percent(name: str, kind: str) -> None:
    sensor = BadSensor(TRACES[name], SECONDS, seed=len(name), **SENSORS[kind])
    energy = measured(sensor)
    if kind == "with gaps" and energy.total_j is None:
        assert energy.left_out_s > 0.1 and energy.status.endswith("% of the energy in doubt")
        return
    assert abs(off_by(energy, sensor)) < 0.005
    assert energy.left_out_s == 0 and energy.seconds == pytest.approx(SECONDS, rel=0.01)
    assert energy.sampling_hz == pytest.approx(SAMPLING_HZ, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SENSORS)
def test_energy_over_many_seeds(kind: str) -> None:
    """The figures of docs/measuring.md: 13 powers, 6 kinds of sensor, 60 seeds."""
    off, refused = [], 0
    for trace in TRACES.values():
        for seed in range(60):
            sensor = BadSensor(trace, SECONDS, seed=seed, **SENSORS[kind])
            energy = measured(sensor)
            refused += energy.total_j is None
            off += [] if energy.total_j is None else [abs(off_by(energy, sensor))]
    assert len(TRACES) == 13 and max(off) < 0.005
    assert refused == 0 or (kind == "with gaps" and refused / (60 * len(TRACES)) == pytest.approx(6 / 7, abs=0.02))


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "deviation"), [(30.0, 0.004), (90.0, 0.002)])
def test_what_chance_leaves_where_power_doubles_within_each_frame(seconds: float, deviation: float) -> None:
    """Of a thread that wakes a millisecond late."""
    off = []
    for hz, duty in product((7.3, 15, 20, 24, 25, 29.97, 30, 50, 60), (0.1, 0.3, 0.5, 0.7, 0.9)):
        for seed in range(4):
            sensor = BadSensor(square(hz, duty, 5, 10), seconds, late_s=1e-3, seed=seed)
            off.append(off_by(measured(sensor), sensor))
    assert math.sqrt(sum(each * each for each in off) / len(off)) == pytest.approx(deviation, rel=0.3)


def test_a_rate_in_step_with_a_camera_would_see_one_part_of_each_frame() -> None:
    """Why the rates of sensors are odd. A power of 50 frames a second, read 50 times: every reading sees the tenth of each
    frame in which it is high."""
    worst = {50.0: 0.0, SAMPLING_HZ: 0.0}
    for hz, duty, began_s in product((25, 50), (0.1, 0.3), (0.0005, 0.003, 0.011)):
        for rate_hz in worst:
            sensor = BadSensor(square(hz, duty, 5, 10), SECONDS, began_s=began_s)
            worst[rate_hz] = max(worst[rate_hz], abs(off_by(measured(sensor, rate_hz), sensor)))
    assert worst[50.0] == pytest.approx(10 / 5.5 - 1, abs=0.005) and worst[SAMPLING_HZ] < 0.005


def test_the_same_reading_at_the_same_time_counts_once() -> None:
    integral = PowerIntegral(gap_s=10)
    for time_s, watts in ((0, 4.0), (0, 4.0), (1, 6.0), (1, 6.0), (1, 8.0), (2, 8.0)):
        integral.add(time_s, {"VDD_IN": watts})
    assert integral.joules["VDD_IN"] == pytest.approx(5 + 8) and integral.seconds == 2


# --- gaps ---


def with_gap(trace: Trace, until_s: float, *gaps: tuple[float, float]) -> Energy:
    """Readings at 46.1 Hz but within the gaps (from, to)."""
    integral = PowerIntegral(GAP_PERIODS / SAMPLING_HZ)
    for tick in range(int(until_s * SAMPLING_HZ) + 1):
        time_s = tick / SAMPLING_HZ
        if not any(begin < time_s < end for begin, end in gaps):
            integral.add(time_s, {"VDD_IN": trace.watts(time_s)})
    return energy_of(integral, "measured", ["VDD_IN"])


def test_a_gap_of_a_steady_power_does_no_harm() -> None:
    energy = with_gap(pieces([(0, 5.0)]), 20, (7, 12))
    assert energy.total_j == pytest.approx(5.0 * energy.seconds) and energy.left_out_s == 0
    assert energy.seconds == pytest.approx(20, rel=0.01) and energy.status == "measured"


def test_a_gap_that_may_hold_anything_leaves_no_figure() -> None:
    trace = square(0.5, 0.5, 5, 10)
    energy = with_gap(trace, 20, (7, 10))
    assert energy.total_j is None and energy.left_out_s == pytest.approx(3, abs=0.05)
    assert energy.status.startswith("measured; 3.0 s of 20.0 s left out: no reading for up to 3.0")
    assert energy.status.endswith("% of the energy in doubt") and energy.seconds == pytest.approx(17, abs=0.1)
    assert energy.above_idle_j({"VDD_IN": 1.0}) is None


def test_a_short_gap_in_a_long_measurement_is_bridged() -> None:
    trace = square(0.5, 0.5, 5, 10)
    energy = with_gap(trace, 120, (50.8, 51.3))
    assert energy.left_out_s == 0 and energy.total_j == pytest.approx(trace.joules(energy.seconds), rel=0.005)


def test_many_gaps_add_up() -> None:
    energy = with_gap(square(0.5, 0.5, 5, 10), 120, *((10 * each, 10 * each + 0.5) for each in range(1, 12)))
    assert energy.total_j is None and energy.left_out_s == pytest.approx(11 * 0.5, abs=0.5)


def test_a_rail_beside_the_total_does_not_decide() -> None:
    """A rail that is noise around zero has no relative error to speak of; what is asked for is the total."""
    integral = PowerIntegral(gap_s=0.1)
    for tick in range(100):
        if not 40 < tick < 60:
            integral.add(tick / 20, {"VDD_IN": 5.0, "VDD_SOC": 0.02 * (-1) ** tick})
    assert energy_of(integral, "measured", ["VDD_IN"]).total_j == pytest.approx(5 * 99 / 20)


@pytest.mark.parametrize("seed", range(40))
def test_a_figure_is_right_or_there_is_none(seed: int) -> None:
    """Random traces through random sensors with long gaps."""
    chance = random.Random(seed)
    low_w = chance.uniform(1, 10)
    trace = bursts(seed, 130, low_w, low_w * chance.uniform(1.1, 4))
    gap = (chance.choice([0.0, 0.001, 0.01]), 0.3, chance.uniform(0.4, 3))
    sensor = BadSensor(trace, chance.uniform(60, 120), late_s=1e-3, gap=gap, seed=seed)
    energy = measured(sensor)
    if energy.total_j is None:
        assert energy.left_out_s > 0.1 and "left out: no reading for up to" in energy.status
        assert energy.seconds + energy.left_out_s == pytest.approx(sensor.time_s, rel=0.01)
    else:
        assert abs(off_by(energy, sensor)) < MOST_ERROR


# --- counters ---


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("range_j", [40.0, 262_144.0, math.inf])
def test_a_counter_that_wraps_is_off_by_less_than_half_a_percent(name: str, range_j: float) -> None:
    """Renewed every millisecond in steps of 61 uJ (RAPL), read at uneven times, now and then twice at the same."""
    trace, chance = TRACES[name], random.Random(3)
    counter, begin_j = CounterSum({"package-0": range_j}), 17.0
    time_s, read_s = 0.0, []
    while time_s < SECONDS:
        counted_j = begin_j + trace.joules(math.floor(time_s * 1e3) / 1e3)
        counted_j = math.floor(counted_j / 61e-6) * 61e-6
        counter.add(time_s, {"package-0": counted_j % range_j if math.isfinite(range_j) else counted_j})
        read_s.append(time_s)
        time_s += chance.choice([0.0, 0.5, 0.5, 0.5, 1.9])
    assert any(before == after for before, after in pairwise(read_s))
    energy = energy_of(counter, "counted", ["package-0"])
    assert energy.total_j == pytest.approx(trace.joules(read_s[-1]), rel=0.005) and energy.left_out_s == 0
    assert energy.sampling_hz is None
