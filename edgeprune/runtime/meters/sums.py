"""Sums of readings: energy from powers that were sampled, or from counters of energy. Seconds, watts and joules."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence

Readings = Mapping[str, float]
# The largest CPU packages of 2025 are made for 500 W, and take less than twice that for an instant. A counter that would have
# had to count faster did not wrap: it was reset.
MOST_W = 1000.0
LIVE_S = 1.0  # `watts()` is the mean over as long
STALE_S = (
    3.0  # and None once the newest reading is older: a sensor that failed once is bridged, one that is lost is not
)


class CounterReset(Exception):
    """A counter began again, so that nobody knows what it would have counted."""


class RailSum(ABC):
    """Turns successive readings of every rail into joules.

    Attributes:
        joules: of each rail, but for what was left out.
        samples: readings that were added.
        seconds: between the first reading and the last, but for what was left out.
        left_out_s, left_out_why: time in which nobody knows what was taken.
    """

    def __init__(self) -> None:
        self.joules: dict[str, float] = {}
        self.samples = 0
        self.seconds = 0.0
        self.left_out_s = 0.0
        self.left_out_why = ""
        self._before: tuple[float, Readings] | None = None
        self._recent: deque[tuple[float, float, Readings]] = deque()  # when an interval ended, its seconds, its joules

    @abstractmethod
    def gain_j(self, rail: str, before: float, now: float, seconds: float) -> float:
        """Energy of a rail between two readings of it.

        Raises:
            CounterReset: it can't be known.
        """

    def add(self, time_s: float, readings: Readings) -> None:
        """One reading of every rail at time_s (seconds of a clock that only goes forward).

        Where one rail's energy since the last reading can't be known, the time is left out for all of them.
        """
        if self._before is None:
            self.joules = dict.fromkeys(readings, 0.0)
        else:
            before_s, before = self._before
            passed_s = time_s - before_s
            try:
                gains_j = {rail: self.gain_j(rail, before[rail], now, passed_s) for rail, now in readings.items()}
            except CounterReset as reset:
                self.left_out_s += passed_s
                self.left_out_why = str(reset)
            else:
                self.joules = {rail: self.joules[rail] + gain for rail, gain in gains_j.items()}
                self.seconds += passed_s
                self._recent.append((time_s, passed_s, gains_j))
                while self._recent[0][0] <= time_s - LIVE_S:
                    self._recent.popleft()
        self._before = (time_s, readings)
        self.samples += 1

    @property
    def newest_s(self) -> float | None:
        """When the newest reading was taken; None before the first."""
        return self._before[0] if self._before else None

    def hold(self, time_s: float) -> None:
        """Takes the newest readings, which are powers, to hold until time_s. It is no sample."""
        if self._before:
            self.add(time_s, self._before[1])
            self.samples -= 1

    def recent_w(self, rails: Sequence[str], now_s: float) -> float | None:
        """Mean power of the sum of `rails` over the intervals between readings that ended in the last LIVE_S, the newest one in
        any case; None where that is older than STALE_S, or there is none yet, or no rail is given."""
        if not rails or not self._recent or now_s - self._recent[-1][0] > STALE_S:
            return None
        seconds = sum(passed_s for _, passed_s, _ in self._recent)
        joules = sum(gains_j[rail] for _, _, gains_j in self._recent for rail in rails)
        return joules / seconds if seconds else None


class PowerIntegral(RailSum):
    """Readings in watts, integrated by the trapezoid rule."""

    def gain_j(self, rail: str, before: float, now: float, seconds: float) -> float:
        return (before + now) / 2 * seconds


class CounterSum(RailSum):
    """Readings of energy counters in joules. One starts again at zero when it has reached its range.

    At most one such wrap may lie between two readings. A range is infinite where a counter never wraps. A counter that went
    back where a wrap would have taken more than MOST_W was reset, as by a suspend or a driver.
    """

    def __init__(self, range_j: Readings) -> None:
        super().__init__()
        self._range_j = range_j

    def gain_j(self, rail: str, before: float, now: float, seconds: float) -> float:
        if now >= before:
            return now - before
        wrapped_j = now - before + self._range_j[rail]
        if not 0 <= wrapped_j <= MOST_W * max(seconds, 1.0):  # a counter is renewed now and then, not at every reading
            raise CounterReset(f"the energy counter of {rail} was reset")
        return wrapped_j
