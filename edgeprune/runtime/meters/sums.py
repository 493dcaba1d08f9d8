"""Sums of readings: energy from powers that were sampled, or from counters of energy. Seconds, watts and joules."""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence

Readings = Mapping[str, float]
# The largest CPU packages of 2025 are made for 500 W, and take less than twice that for an instant. A counter that would have
# had to count faster did not wrap: it was reset.
MOST_W = 1000.0
MOST_ERROR = 0.005  # of an energy; where it may be off by more, there is none
SIGMAS = 3.0
GAP_PERIODS = 3  # a sensor that is to be read at a rate, and is read so many times later, has a gap there
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
                self._gain(passed_s, gains_j)
                self._recent.append((time_s, passed_s, gains_j))
                while self._recent[0][0] <= time_s - LIVE_S:
                    self._recent.popleft()
        self._before = (time_s, readings)
        self.samples += 1

    def _gain(self, passed_s: float, gains_j: Readings) -> None:
        """Adds what an interval gave."""
        self.joules = {rail: self.joules[rail] + gain for rail, gain in gains_j.items()}
        self.seconds += passed_s

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
    """Readings in watts, integrated by the trapezoid rule.

    What power was in a gap is guessed from the reading before it and the one behind it. That guess is off by the standard
    deviation of all readings, or so we take it, each gap's by itself. Where SIGMAS times what that makes of all gaps is within
    MOST_ERROR of the energy, they are bridged by the trapezoid rule; else they are left out: nobody knows.

    Args:
        gap_s: a longer interval between two readings is a gap; a shorter one is jitter.
    """

    def __init__(self, gap_s: float) -> None:
        super().__init__()
        self._gap_s = gap_s
        self._gaps_s: list[float] = []
        self._bridged_j: dict[str, float] = {}
        self._first: Readings | None = None
        self._above: dict[
            str, tuple[float, float]
        ] = {}  # sum, and sum of squares, of what readings are above the first one

    def add(self, time_s: float, readings: Readings) -> None:
        super().add(time_s, readings)
        self._first = first = self._first or readings
        for rail, now in readings.items():
            above, squared = self._above.get(rail, (0.0, 0.0))
            difference = now - first[rail]
            self._above[rail] = above + difference, squared + difference * difference

    def gain_j(self, rail: str, before: float, now: float, seconds: float) -> float:
        return (before + now) / 2 * seconds

    def _gain(self, passed_s: float, gains_j: Readings) -> None:
        if passed_s <= self._gap_s:
            super()._gain(passed_s, gains_j)
            return
        self._gaps_s.append(passed_s)
        self._bridged_j = {rail: self._bridged_j.get(rail, 0.0) + gain for rail, gain in gains_j.items()}

    def _deviation_w(self, rail: str) -> float:
        """Standard deviation of the readings of a rail."""
        above, squared = self._above[rail]
        return math.sqrt(max(0.0, squared / self.samples - (above / self.samples) ** 2))

    def settle(self, rails: Sequence[str]) -> None:
        """Ends the sum, of which `rails` are what is asked for: bridges the gaps or leaves them out, see the class."""
        gaps_s, self._gaps_s = self._gaps_s, []
        if not gaps_s:
            return
        rails = rails or list(self.joules)
        whole_j = sum(self.joules[rail] + self._bridged_j[rail] for rail in rails)
        doubt_j = SIGMAS * math.hypot(*gaps_s) * sum(map(self._deviation_w, rails))
        if doubt_j <= MOST_ERROR * whole_j:
            super()._gain(sum(gaps_s), self._bridged_j)
            return
        self.left_out_s += sum(gaps_s)
        self.left_out_why = f"no reading for up to {max(gaps_s):.2f} s at a time"
        if whole_j > 0:
            self.left_out_why += f", which leaves {doubt_j / whole_j:.1%} of the energy in doubt"


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
