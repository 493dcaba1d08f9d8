"""A governor for a session: what its graphs take is measured first."""

import time
from collections.abc import Callable

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.runtime.budget.costs import BucketCosts
from edgeprune.runtime.budget.governor import Governor
from edgeprune.runtime.budget.throttle import Throttling
from edgeprune.runtime.budget.wanted import Budget
from edgeprune.runtime.engines import Session
from edgeprune.runtime.meters import OTHER_METER, Meter
from edgeprune.runtime.row import milliseconds

ROUNDS = 8  # of the trunk and each tail
LEAST_ROUNDS = 3
ENOUGH_S = 3.0  # of a large frame fewer rounds are measured


def start_governor(
    budget: Budget,
    session: Session,
    buckets: list[str],
    frame_size: tuple[int, int],
    meter: Meter | None = None,
) -> Governor:
    """Measures trunk and tails on a grey frame, in turn, and begins with these times.

    Args:
        buckets: that can run here, smallest first.
        frame_size: height and width of the model's input.
        meter: that is started when the frames begin.

    Raises:
        InputError: a budget of power or energy without a meter.
    """
    refuse_unmetered(budget, meter)
    trunk_ms, tails_ms = measure_costs(session, buckets, frame_size)
    costs = BucketCosts(tails_ms, trunk_ms)
    return Governor(budget, buckets, costs, meter.watts if meter else None, Throttling().slower)


def refuse_unmetered(budget: Budget, meter: Meter | None) -> None:
    """Raises InputError where a budget of power or energy has no sensor, with the reason."""
    if not budget.metered:
        return
    why, instead = "frames of `edgeprune.open` are not metered, those of `edgeprune run` are", ""
    if meter is not None:
        energy = meter.stop() if meter.name == "none" else None
        if energy is None:
            return
        why, instead = energy.status, f"; {OTHER_METER}"
    raise InputError(f"--budget {budget} is held by what a meter shows: {why}; give a budget in ms or fps{instead}")


def measure_costs(
    session: Session,
    buckets: list[str],
    frame_size: tuple[int, int],
    now_ns: Callable[[], int] = time.monotonic_ns,
) -> tuple[list[float], dict[str, list[float]]]:
    """Times of the trunk, and of each bucket's tail, in milliseconds, in rounds of all."""
    grey_HW3 = np.full((*frame_size, 3), 128, np.uint8)
    trunk_ms: list[float] = []
    tails_ms: dict[str, list[float]] = {name: [] for name in buckets}
    session.start(grey_HW3)
    session.finish(buckets[0])  # where there is no state to go on from, all tokens are computed
    began_ns = now_ns()
    for number in range(ROUNDS):
        if number >= LEAST_ROUNDS and now_ns() - began_ns > ENOUGH_S * 1e9:
            break
        for name in buckets:
            start_ns = now_ns()
            session.start(grey_HW3)
            trunk_ns = now_ns()
            session.finish(name)
            trunk_ms.append(milliseconds(start_ns, trunk_ns))
            tails_ms[name].append(milliseconds(trunk_ns, now_ns()))
    return trunk_ms, tails_ms
