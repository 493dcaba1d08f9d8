"""Notices that a machine lowers what its clocks may do, as it does when it is hot or short of power.

What a clock is at this moment says less than what it may be: a governor lowers it whenever there is little to do.
"""

import time
from collections.abc import Callable, Mapping

from edgeprune.base.clocks import clock_limits_mhz

LOOKS_S = 1.0  # between two looks, which cost 0.1 ms or less
LEAST = 1.05  # times lower: less is no throttling


class Throttling:
    """Compares the limits with those of the look before.

    Args:
        limits: what the clocks may be at most now.
        now: seconds by a monotonic clock.
    """

    def __init__(
        self,
        limits: Callable[[], Mapping[str, float]] = clock_limits_mhz,
        now: Callable[[], float] = time.monotonic,
    ):
        self._limits, self._now = limits, now
        self._before, self._looked_s = dict(limits()), now()

    def slower(self) -> tuple[str, float] | None:
        """The clock whose limit was lowered most since the look before, and by how many times; None where none was, or it is
        too early for another look."""
        if self._now() - self._looked_s < LOOKS_S:
            return None
        before, self._before, self._looked_s = self._before, dict(self._limits()), self._now()
        times = {name: before[name] / mhz for name, mhz in self._before.items() if name in before}
        name = max(times, key=lambda each: times[each], default=None)
        return None if name is None or times[name] < LEAST else (name, times[name])
