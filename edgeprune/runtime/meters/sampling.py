"""Meters that sum readings which a thread of their own takes, between `start()` and `stop()`.

A sensor that hangs holds nobody up: `start()` and `stop()` wait for it PATIENCE_S and no longer, and what it still answers
belongs to a measurement that nobody looks at any more.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from edgeprune.runtime.meters.meter import Energy, no_energy
from edgeprune.runtime.meters.sums import PowerIntegral, RailSum, Readings

PATIENCE_S = 5.0  # for one reading


class Measurement:
    """What lies between a `start()` and its `stop()`: the sum, why the newest reading failed, and when to end."""

    def __init__(self, taken: RailSum):
        self.taken = taken
        self.failure: str | None = None
        self.begun = threading.Event()  # there is a reading, or a failure
        self.stopping = threading.Event()
        self._adding = threading.Lock()  # one thread adds, another asks
        self._held = False

    def add(self, time_s: float, readings: Readings) -> None:
        """A reading; see `RailSum.add`."""
        with self._adding:
            if self._held:
                return
            self.taken.add(time_s, readings)
        self.failure = None
        self.begun.set()

    def hold(self, time_s: float, most_s: float, why: str) -> None:
        """The newest reading is taken to hold until time_s, and no other is added. It fails, and says why, where that one is
        older than most_s."""
        with self._adding:
            self._held = True
            newest_s = self.taken.newest_s
            if newest_s is None or time_s - newest_s > most_s:
                self.failure = self.failure or why
            else:
                self.taken.hold(time_s)

    def fail(self, why: str) -> None:
        """A reading that failed; one that succeeds makes up for it."""
        self.failure = why
        self.begun.set()

    def recent_w(self, rails: Sequence[str], now_s: float) -> float | None:
        """See `RailSum.recent_w`."""
        with self._adding:
            return self.taken.recent_w(rails, now_s)


class SummingMeter(ABC):
    """A meter whose readings a thread adds to a sum.

    Args:
        name: as a person calls it.
        status: of a measurement that succeeds.
        new_sum: makes the sum of one measurement.
        total_of: the rails whose sum is the total; none where it isn't known.
    """

    begin_s = PATIENCE_S  # for the first reading

    def __init__(self, name: str, status: str, new_sum: Callable[[], RailSum], total_of: Sequence[str]):
        self.name = name
        self._status = status
        self._new_sum = new_sum
        self._total_of = tuple(total_of)
        self._now: Measurement | None = None

    @abstractmethod
    def _take_all(self, measurement: Measurement) -> None:
        """Adds readings to a measurement until it is `stopping`; the thread's work."""

    def _end(self, measurement: Measurement) -> None:
        """Tells the thread to take the last reading and to end."""
        measurement.stopping.set()

    def start(self) -> None:
        """Starts the thread, and waits for its first reading."""
        self._now = Measurement(self._new_sum())
        self._thread = threading.Thread(
            target=self._take_all, args=[self._now], name=f"energy meter {self.name}", daemon=True
        )
        self._thread.start()
        try:
            self._now.begun.wait(self.begin_s)
        except BaseException:
            self.stop()
            raise

    def watts(self) -> float | None:
        """Mean power of the total over the last second or so, while it measures; see `Meter`."""
        return self._now.recent_w(self._total_of, time.monotonic()) if self._now else None

    def stop(self) -> Energy:
        """Waits for the last reading. No energy where the sensor has stopped answering; gaps before that are bridged."""
        measurement, self._now = self._now, None
        if measurement is None:
            return no_energy(f"{self.name} was not started")
        self._end(measurement)
        self._thread.join(PATIENCE_S)
        failure = measurement.failure
        if self._thread.is_alive():
            failure = f"a reading takes longer than {PATIENCE_S:.0f} s"
        if failure is not None or measurement.taken.samples < 2:
            return no_energy(f"{self.name} stopped answering ({failure or 'it gave one reading alone'})")
        return energy_of(measurement.taken, self._status, self._total_of)


def energy_of(taken: RailSum, status: str, total_of: Sequence[str]) -> Energy:
    """What a sum of at least two readings says. Where time was left out there is no total, and the status says why."""
    sampled = isinstance(taken, PowerIntegral)
    if isinstance(taken, PowerIntegral):
        taken.settle(total_of)
    left_out_s = taken.left_out_s
    if left_out_s:
        if not taken.seconds:
            return no_energy(f"{taken.left_out_why} while it was measured")
        status += f"; {left_out_s:.1f} s of {taken.seconds + left_out_s:.1f} s left out: {taken.left_out_why}"
    whole = total_of and not left_out_s
    return Energy(
        status=status,
        joules=taken.joules,
        total_j=sum(taken.joules[rail] for rail in total_of) if whole else None,
        total_of=tuple(total_of),
        samples=taken.samples,
        seconds=taken.seconds,
        sampling_hz=(taken.samples - 1) / (taken.seconds + left_out_s) if sampled else None,
        left_out_s=left_out_s,
    )


class Clock:
    """The time, and waiting for it; tests have one of their own."""

    def now_s(self) -> float:
        """Of a clock that only goes forward."""
        return time.monotonic()

    def wait(self, stopping: threading.Event, seconds: float) -> bool:
        """Waits for as long, or until a measurement is to stop. Whether it is."""
        return stopping.wait(max(0.0, seconds))


class SampledMeter(SummingMeter):
    """A meter made of a function that reads every rail at once, called at a fixed rate.

    Args:
        name, status, total_of: see `SummingMeter`.
        read: readings of every rail; raises OSError or ValueError where the sensor doesn't answer.
        new_sum: makes the sum of one measurement.
        period_s: time between readings.
        clock: of the readings.
    """

    def __init__(
        self,
        name: str,
        status: str,
        read: Callable[[], Readings],
        new_sum: Callable[[], RailSum],
        period_s: float,
        total_of: Sequence[str],
        clock: Clock | None = None,
    ):
        super().__init__(name, status, new_sum, total_of)
        self._read = read
        self._period_s = period_s
        self._clock = clock or Clock()

    def _take_all(self, measurement: Measurement) -> None:
        self._take(measurement)
        due_s = self._clock.now_s() + self._period_s
        while not self._clock.wait(measurement.stopping, due_s - self._clock.now_s()):
            self._take(measurement)
            due_s = max(due_s + self._period_s, self._clock.now_s())
        self._take(measurement)  # the last one

    def _take(self, measurement: Measurement) -> None:
        try:
            readings = self._read()
            measurement.add(self._clock.now_s(), readings)
        except (OSError, ValueError) as error:
            measurement.fail(str(error))
