"""Powers over time whose energy is known in closed form, and a clock with a sensor that reads them badly."""

import math
import random
import threading
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from edgeprune.runtime.meters.sampling import Clock


@dataclass(frozen=True)
class Trace:
    """Power in watts at a time in seconds, and the energy from 0 until then in joules."""

    watts: Callable[[float], float]
    joules: Callable[[float], float]


def pieces(of: Sequence[tuple[float, float]]) -> Trace:
    """So many watts from each time on: (seconds, watts), the first at 0."""
    begins = [begin for begin, _ in of]
    until_j = [0.0]
    for (begin, watts), (end, _) in pairwise(of):
        until_j.append(until_j[-1] + watts * (end - begin))

    def watts_at(time_s: float) -> float:
        return of[bisect(begins, time_s) - 1][1]

    def joules_at(time_s: float) -> float:
        index = bisect(begins, time_s) - 1
        return until_j[index] + of[index][1] * (time_s - begins[index])

    return Trace(watts_at, joules_at)


def step(at_s: float, before_w: float, after_w: float) -> Trace:
    return pieces([(0.0, before_w), (at_s, after_w)])


def ramp(from_w: float, watts_a_second: float) -> Trace:
    return Trace(lambda t: from_w + watts_a_second * t, lambda t: from_w * t + watts_a_second * t * t / 2)


def sine(mean_w: float, by_w: float, hz: float) -> Trace:
    omega = 2 * math.pi * hz
    return Trace(
        lambda t: mean_w + by_w * math.sin(omega * t), lambda t: mean_w * t + by_w * (1 - math.cos(omega * t)) / omega
    )


def square(hz: float, duty: float, low_w: float, high_w: float) -> Trace:
    """High for the share `duty` of each period: a frame, and the wait for the next."""

    def joules_at(time_s: float) -> float:
        periods = math.floor(time_s * hz)
        rest = time_s * hz - periods
        high = periods * duty + min(rest, duty)
        return low_w * time_s + (high_w - low_w) * high / hz

    return Trace(lambda t: high_w if t * hz % 1 < duty else low_w, joules_at)


def bursts(seed: int, until_s: float, low_w: float, high_w: float) -> Trace:
    """Bursts of 50 to 400 ms at random times, half a second apart on average."""
    chance = random.Random(seed)
    of, now_s = [(0.0, low_w)], 0.0
    while now_s < until_s:
        now_s += chance.expovariate(2)
        of.append((now_s, high_w))
        now_s += chance.uniform(0.05, 0.4)
        of.append((now_s, low_w))
    return pieces(of)


@dataclass
class BadSensor(Clock):
    """A sensor of one rail and the clock that it is read by.

    Args:
        until_s: when the measurement is to stop.
        late_s: by how much the thread wakes too late, on average.
        gap: how probable it is that it wakes far too late, and by how much at least and at most.
        lost: share of the readings that fail.
        reading_s: the most that one takes.
        tick_s: resolution of the clock; 0: none.
        began_s: when it was started.
    """

    trace: Trace
    until_s: float
    late_s: float = 0.0
    gap: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lost: float = 0.0
    reading_s: float = 0.0
    tick_s: float = 0.0
    seed: int = 0
    began_s: float = 0.0
    time_s: float = field(init=False)
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.time_s, self.chance = self.began_s, random.Random(self.seed)

    def now_s(self) -> float:
        return self.time_s - self.time_s % self.tick_s if self.tick_s else self.time_s

    def wait(self, stopping: threading.Event, seconds: float) -> bool:
        probable, least_s, most_s = self.gap
        self.time_s += max(0.0, seconds) + (self.chance.expovariate(1 / self.late_s) if self.late_s else 0)
        if self.chance.random() < probable:
            self.time_s += self.chance.uniform(least_s, most_s)
        return self.time_s >= self.until_s

    def read(self) -> dict[str, float]:
        """The power in the middle of a reading."""
        self.time_s += self.chance.uniform(0, self.reading_s / 2)
        watts = self.trace.watts(self.time_s)
        self.time_s += self.chance.uniform(0, self.reading_s / 2)
        if self.chance.random() < self.lost and self.began_s < self.time_s < self.until_s:
            raise OSError("busy")
        return {"VDD_IN": watts}
