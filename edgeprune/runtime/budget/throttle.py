"""Notices that a machine lowers what its clocks may do, as it does when it is hot or short of power.

The limits stand in sysfs: `scaling_max_freq` of each CPU policy (Documentation/admin-guide/pm/cpufreq.rst: "Maximum frequency
the CPUs belonging to this policy are allowed to be running at"), and those of a Jetson's GPU and memory (`base/clocks.py`).
What a clock is at this moment says less: a governor lowers it whenever there is little to do.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edgeprune.base.clocks import gpu_clocks, memory_clock

CPU_LIMITS = "sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq"
LOOKS_S = 1.0  # between two looks, which cost 0.1 ms or less
LEAST = 1.05  # times lower: less is no throttling


def clock_limits_mhz(root: Path = Path("/")) -> dict[str, float]:
    """What each clock may be at most now, by name, in MHz; without those that can't be read."""
    limits: dict[str, float | None] = {}
    for path in sorted(root.glob(CPU_LIMITS)):
        try:
            limits[path.parent.name] = int(path.read_text()) / 1000
        except (OSError, ValueError):  # of cores that are switched off
            continue
    limits |= {name: clock.most_mhz for name, clock in gpu_clocks(root).items()}
    limits["memory"] = memory_clock(root).most_mhz
    return {name: mhz for name, mhz in limits.items() if mhz}


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
