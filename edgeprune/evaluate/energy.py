"""Millijoules of a frame: speed and energy of each graph from the same windows, between two measurements of idle power.

open graphs | settle, idle | rounds: each graph warms up, then runs for a window | settle, idle. docs/measuring.md says why.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgeprune.base.clocks import clocks_mhz
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.machine import temperatures_c
from edgeprune.base.processors import others_share, processor_ticks
from edgeprune.evaluate.energy_figures import Idle, Measured, Runs, idle_of, is_busy, largest
from edgeprune.evaluate.timing import rotated
from edgeprune.runtime.meters import Energy, Meter

logger = logging.getLogger(__name__)

WARM_UP_S = 2.0  # of each graph, before each of its windows
SETTLE_S = 5.0  # in which nothing runs, before idle power is measured
LEAST_SAMPLES = 20  # readings of power in a window


class Plan(NamedTuple):
    """How long is measured: so many rounds over all graphs, in each a window of so many seconds of each graph."""

    rounds: int
    seconds: float


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
    (before, others_before), before_c = _idle(meter, plan, wait), temperatures_c()
    refuse_few_samples(before, plan.seconds)
    for number in range(plan.rounds):
        for each in rotated(measured, number):
            _window(each, meter, plan.seconds)
        logger.info(f"round {number + 1} of {plan.rounds}")
    logger.info(f"idle power again: nothing runs for {SETTLE_S + plan.seconds:.0f} s")
    (after, others_after), after_c = _idle(meter, plan, wait), temperatures_c()
    others = largest([others_before, others_after])
    return idle_of(before, after, {"before": before_c, "after": after_c}, others), measured


def _idle(meter: Meter, plan: Plan, wait: Callable[[float], object]) -> tuple[Energy, float | None]:
    """The energy, and what others took of the processors."""
    wait(SETTLE_S)
    ticks = processor_ticks()
    meter.start()
    try:
        wait(plan.seconds)
    finally:
        energy = meter.stop()
    others = others_share(ticks, processor_ticks())
    _warn_of(others, "while the machine was to be idle")
    return whole(energy, "while the machine was idle"), others


def _window(each: Measured, meter: Meter, seconds: float) -> None:
    """Warms a graph up and measures a window of it."""

    def look() -> None:
        each.clocks_mhz.append(clocks_mhz())
        each.temperatures_c.append(temperatures_c())

    each.graph.window(min(WARM_UP_S, seconds))
    ticks = processor_ticks()
    meter.start()
    try:
        window = each.graph.window(seconds, halfway=look)
    finally:
        energy = meter.stop()
    others = others_share(ticks, processor_ticks())
    if not is_busy(largest(each.others)):  # once a graph
        _warn_of(others, f"while {each.graph.label} ran")
    each.others.append(others)
    each.windows.append(window)
    each.energies.append(whole(energy, f"while {each.graph.label} ran"))
    if energy.sampling_hz is not None and energy.samples < LEAST_SAMPLES:
        raise RunError(
            f"only {energy.samples} readings of power while {each.graph.label} ran; run again with more --seconds"
        )


def _warn_of(others: float | None, when: str) -> None:
    """Says where others took more of the machine than a figure forgives."""
    if others is not None and is_busy(others):
        logger.warning(
            f"other processes took {others:.0%} of the processors {when}: `top` names them; stop them, and run again"
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
