"""A meter that takes readings at a fixed rate in a thread of its own, between `start()` and `stop()`."""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from edgeprune.runtime.meters.meter import Energy, no_energy

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
    """Turns successive readings of every rail into joules."""

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


class SampledMeter:
    """A meter made of a function that reads every rail at once, and a sum.

    Args:
        name: its key in SENSORS.
        status: of a measurement that succeeds.
        read: readings of every rail; raises OSError or ValueError where the sensor doesn't answer.
        new_sum: makes the sum of one measurement.
        period_s: time between readings.
        total_of: the rails whose sum is the total; none where it isn't known.
    """

    def __init__(
        self,
        name: str,
        status: str,
        read: Callable[[], Readings],
        new_sum: Callable[[], RailSum],
        period_s: float,
        total_of: Sequence[str],
    ):
        self.name = name
        self._status = status
        self._read = read
        self._new_sum = new_sum
        self._period_s = period_s
        self._total_of = tuple(total_of)
        self._sum = new_sum()
        self._stopping = threading.Event()
        self._stopping.set()  # nothing is measured yet
        self._adding = threading.Lock()  # the thread adds while `watts` reads

    def start(self) -> None:
        """Takes the first reading and starts the thread."""
        self._sum = self._new_sum()
        self._failure: Exception | None = None
        self._stopping.clear()
        self._take()
        self._thread = threading.Thread(target=self._sample, name=f"energy meter {self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> Energy:
        """Takes the last reading. No energy where the sensor has stopped answering; gaps before that are bridged."""
        self._stopping.set()
        self._thread.join()
        self._take()
        taken = self._sum
        if self._failure is not None or taken.samples < 2:
            return no_energy(f"{self.name} stopped answering ({self._failure})")
        status, left_out_s = self._status, taken.left_out_s
        if left_out_s:
            if not taken.seconds:
                return no_energy(f"{taken.left_out_why} while it was measured")
            status += f"; {left_out_s:.1f} s of {taken.seconds + left_out_s:.1f} s left out: {taken.left_out_why}"
        whole = self._total_of and not left_out_s
        return Energy(
            status=status,
            joules=taken.joules,
            total_j=sum(taken.joules[rail] for rail in self._total_of) if whole else None,
            total_of=self._total_of,
            samples=taken.samples,
            seconds=taken.seconds,
            sampling_hz=(taken.samples - 1) / taken.seconds if isinstance(taken, PowerIntegral) else None,
            left_out_s=left_out_s,
        )

    def watts(self) -> float | None:
        """Mean power of the total over the last LIVE_S or so, while it measures; see `Meter`."""
        if self._stopping.is_set():
            return None
        with self._adding:
            return self._sum.recent_w(self._total_of, time.monotonic())

    def _take(self) -> None:
        try:
            readings, now_s = self._read(), time.monotonic()
            with self._adding:
                self._sum.add(now_s, readings)
            self._failure = None
        except (OSError, ValueError) as error:
            self._failure = error

    def _sample(self) -> None:
        due_s = time.monotonic() + self._period_s
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            self._take()
            due_s = max(due_s + self._period_s, time.monotonic())
