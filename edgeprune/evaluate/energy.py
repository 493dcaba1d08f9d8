"""Millijoules of a frame: speed and energy of each graph from the same windows, between two measurements of idle power.

open graphs | settle, idle | rounds: each graph warms up, then runs for a window | settle, idle. docs/measuring.md says why.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any, NamedTuple, Protocol

from edgeprune.base.clocks import clocks_mhz
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.machine import temperatures_c
from edgeprune.base.statistics import Extremes, Latency, extremes
from edgeprune.evaluate.timing import rotated
from edgeprune.evaluate.worker import Window
from edgeprune.runtime.meters import Energy, Meter

logger = logging.getLogger(__name__)

WARM_UP_S = 2.0  # of each graph, before each of its windows
SETTLE_S = 5.0  # in which nothing runs, before idle power is measured
LEAST_SAMPLES = 20  # readings of power in a window
MOST_DRIFT = 0.05  # of idle power from before to after; beyond, the machine was not at rest


class Runs(Protocol):
    """A graph that can be run for a while: `timing.Entry`."""

    @property
    def label(self) -> str: ...

    def window(self, seconds: float, halfway: Callable[[], None] | None = None) -> Window: ...


class Plan(NamedTuple):
    """How long is measured: so many rounds over all graphs, in each a window of so many seconds of each graph."""

    rounds: int
    seconds: float


@dataclass
class Measured:
    """What was measured of one graph: a window, its energy and what the machine was at in the middle of it, by round."""

    graph: Runs
    windows: list[Window] = field(default_factory=list)
    energies: list[Energy] = field(default_factory=list)
    clocks_mhz: list[dict[str, float]] = field(default_factory=list)
    temperatures_c: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Idle:
    """What the machine takes when every graph is open and none runs, in watts by rail.

    Attributes:
        before_w, after_w: all graphs.
        total_before_w, total_after_w: of the rails that make the total.
        drift: total_after_w as a share more than total_before_w; None where that is 0.
        temperature_c: of each sensor, `before` and `after`.
    """

    before_w: dict[str, float]
    after_w: dict[str, float]
    total_before_w: float
    total_after_w: float
    drift: float | None
    temperature_c: dict[str, dict[str, float]]

    def watts(self, rail: str) -> float:
        """The mean of before and after, which is what is subtracted."""
        return (self.before_w[rail] + self.after_w[rail]) / 2


@dataclass(frozen=True)
class RailEnergy:
    """A rail's mean power over the windows of a graph, and what that makes of a frame, gross and less idle power."""

    watts: float
    mj_per_frame: float
    mj_above_idle: float


@dataclass(frozen=True)
class EnergyFigures:
    """What one graph takes.

    Attributes:
        frames, seconds: over all rounds.
        fps: frames over seconds, one after the other.
        latency_ms: the median over the rounds of each.
        watts: mean power of the total.
        mj_per_frame: watts over fps.
        mj_spread: of it, over the rounds.
        mj_above_idle: less what the machine takes when idle.
        rails: each of them; they may contain each other.
        samples: readings of power.
        sampling_hz: of them; None where the hardware counts energy itself.
        clocks_mhz: in the middle of the windows, their mean.
        temperature_c: likewise, the highest of each sensor.
        buckets: how many frames each bucket had.
    """

    frames: int
    seconds: float
    fps: float
    latency_ms: Latency
    watts: float
    mj_per_frame: float
    mj_spread: Extremes
    mj_above_idle: float
    rails: dict[str, RailEnergy]
    samples: int
    sampling_hz: float | None
    clocks_mhz: dict[str, float]
    temperature_c: dict[str, float]
    buckets: dict[str, int]


def measure_windows(
    graphs: Sequence[Runs], meter: Meter, plan: Plan, wait: Callable[[float], object] = time.sleep
) -> tuple[Idle, list[Measured]]:
    """Follows the protocol on graphs that are open.

    Args:
        meter: with a sensor.
        wait: for so many seconds, in which nothing runs.

    Raises:
        InputError: the meter has no total, or too few readings in a window.
        RunError: it stopped answering, or left time out.
    """
    measured = [Measured(graph) for graph in graphs]
    takes_s = plan.rounds * len(graphs) * (plan.seconds + WARM_UP_S) + 2 * (plan.seconds + SETTLE_S)
    logger.info(
        f"{len(graphs)} graphs, {plan.rounds} rounds of {plan.seconds:g} s each: {takes_s / 60:.1f} minutes, in which the "
        "machine should do nothing else"
    )
    logger.info(f"idle power: nothing runs for {SETTLE_S + plan.seconds:.0f} s")
    before, before_c = _idle(meter, plan, wait), temperatures_c()
    refuse_few_samples(before, plan.seconds)
    for number in range(plan.rounds):
        for each in rotated(measured, number):
            _window(each, meter, plan.seconds)
        logger.info(f"round {number + 1} of {plan.rounds}")
    logger.info(f"idle power again: nothing runs for {SETTLE_S + plan.seconds:.0f} s")
    after, after_c = _idle(meter, plan, wait), temperatures_c()
    return idle_of(before, after, {"before": before_c, "after": after_c}), measured


def _idle(meter: Meter, plan: Plan, wait: Callable[[float], object]) -> Energy:
    wait(SETTLE_S)
    meter.start()
    try:
        wait(plan.seconds)
    finally:
        energy = meter.stop()
    return whole(energy, "while the machine was idle")


def _window(each: Measured, meter: Meter, seconds: float) -> None:
    """Warms a graph up and measures a window of it."""

    def look() -> None:
        each.clocks_mhz.append(clocks_mhz())
        each.temperatures_c.append(temperatures_c())

    each.graph.window(min(WARM_UP_S, seconds))
    meter.start()
    try:
        window = each.graph.window(seconds, halfway=look)
    finally:
        energy = meter.stop()
    each.windows.append(window)
    each.energies.append(whole(energy, f"while {each.graph.label} ran"))
    if energy.sampling_hz is not None and energy.samples < LEAST_SAMPLES:
        raise RunError(
            f"only {energy.samples} readings of power while {each.graph.label} ran; run again with more --seconds"
        )


def whole(energy: Energy, when: str) -> Energy:
    """An energy that has a total.

    Raises:
        InputError: nobody knows which rails make the total.
        RunError: the sensor stopped answering, or time was left out.
    """
    if energy.total_j is not None and energy.seconds > 0:
        return energy
    if energy.joules and not energy.left_out_s:
        raise InputError(f"energy of a frame needs a total: {energy.status}")
    raise RunError(f"no energy {when}: {energy.status}; run again, and leave the machine alone meanwhile")


def refuse_few_samples(energy: Energy, seconds: float) -> None:
    """Raises InputError where a window has too few readings of power to be its mean."""
    if energy.sampling_hz is not None and energy.samples < LEAST_SAMPLES:
        needed = math.ceil(1.1 * LEAST_SAMPLES / energy.sampling_hz)
        raise InputError(
            f"--seconds {seconds:g} is too short: the meter gave {energy.samples} readings, {LEAST_SAMPLES} are needed; "
            f"type --seconds {needed}"
        )


def idle_of(before: Energy, after: Energy, temperature_c: dict[str, dict[str, float]]) -> Idle:
    """What two measurements of idle power say; a drift beyond MOST_DRIFT is said too."""
    before_w, after_w = before.rails_w, after.rails_w
    totals = [sum(each[rail] for rail in before.total_of) for each in (before_w, after_w)]
    drift = totals[1] / totals[0] - 1 if totals[0] else None
    if drift is not None and abs(drift) > MOST_DRIFT:
        logger.warning(
            f"idle power went from {totals[0]:.2f} to {totals[1]:.2f} W ({drift:+.0%}): the machine was not at rest, or it "
            "warmed up; let it come to rest, stop other programs, and run again"
        )
    return Idle(before_w, after_w, totals[0], totals[1], drift, temperature_c)


def figures_of(measured: Measured, idle: Idle) -> EnergyFigures:
    """Mean power over all windows, weighted with their length, over the frames of the very same windows."""
    windows, energies = measured.windows, measured.energies
    frames, seconds = sum(window.frames for window in windows), sum(window.seconds for window in windows)
    by_round = [energy.rails_w for energy in energies]
    total_of = energies[0].total_of

    def rail_energy(rail: str) -> RailEnergy:
        joules = sum(watts[rail] * window.seconds for watts, window in zip(by_round, windows, strict=True))
        watts = joules / seconds
        return RailEnergy(watts, 1e3 * joules / frames, 1e3 * (watts - idle.watts(rail)) * seconds / frames)

    rails = {rail: rail_energy(rail) for rail in by_round[0]}
    mj_by_round = [
        1e3 * sum(watts[rail] for rail in total_of) * window.seconds / window.frames
        for watts, window in zip(by_round, windows, strict=True)
    ]
    rates = [energy.sampling_hz for energy in energies if energy.sampling_hz is not None]
    return EnergyFigures(
        frames=frames,
        seconds=seconds,
        fps=frames / seconds,
        latency_ms=Latency(
            median(window.latency_ms.p50 for window in windows), median(window.latency_ms.p95 for window in windows)
        ),
        watts=sum(rails[rail].watts for rail in total_of),
        mj_per_frame=sum(rails[rail].mj_per_frame for rail in total_of),
        mj_spread=extremes(mj_by_round),
        mj_above_idle=sum(rails[rail].mj_above_idle for rail in total_of),
        rails=rails,
        samples=sum(energy.samples for energy in energies),
        sampling_hz=min(rates, default=None),
        clocks_mhz=_merged(measured.clocks_mhz, mean),
        temperature_c=_merged(measured.temperatures_c, max),
        buckets=_merged([window.buckets for window in windows], sum),
    )


def _merged(each: Sequence[Mapping[str, Any]], how: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """The values of each key that several mappings have, made one."""
    keys = dict.fromkeys(key for mapping in each for key in mapping)
    return {key: how([mapping[key] for mapping in each if key in mapping]) for key in keys}
