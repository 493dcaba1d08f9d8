"""Devices that take time and power by a formula, on a clock of their own: what holds a budget is tried on them.

Their times are those that `bench` shows of the shipped model on two cores (docs/results.md): a trunk of 10 ms and tails of
12 to 50. Scatter is log-normal with rare frames of three times as long, as a machine that does other things has. Power is
that of idling and, while a frame is worked on, so much more, as an INA3221 shows it on average over a window (of a few
milliamperes' resolution and a kilohertz at best, it can't time one frame: docs/measuring.md).
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from edgeprune.runtime.budget.costs import BucketCosts
from edgeprune.runtime.budget.governor import Governor
from edgeprune.runtime.budget.wanted import parse_budget

TAILS_MS = {"k256": 12.0, "k384": 18.0, "k480": 23.0, "k576": 28.0, "full": 50.0}
TRUNK_MS = 10.0
START_RUNS = 8
Slowdown = Callable[[float], float]
SLOWDOWNS: dict[str, Slowdown] = {
    "quiet": lambda s: 1.0,
    "it becomes hot": lambda s: 1.0 + 0.6 * min(1.0, max(0.0, (s - 5) / 10)),
    "clocks fall and rise": lambda s: 1.5 if 5 < s < 15 else 1.0,
    "a process every half second": lambda s: 1.7 if s % 1 < 0.5 else 1.0,
    "a process ten times a second": lambda s: 1.7 if s % 0.1 < 0.05 else 1.0,
    "a process for three seconds": lambda s: 1.7 if s % 6 < 3 else 1.0,
}
SHARED: dict[str, Any] = {
    "scatter": 0.05,
    "spikes": 0.01,
    "spike": (1.3, 2.0),
}  # a machine that others use too: of a `Device`


def bursts(seed: int, every_s: float = 6.0, lasting_s: float = 0.15) -> Slowdown:
    """Others take a part of the machine, at random times, for a while whose length is exponential: 1.3 to 2 times slower."""
    chance = np.random.default_rng(seed)
    begin_s = np.cumsum(chance.exponential(every_s, 1000))
    end_s, times = begin_s + chance.exponential(lasting_s, 1000), chance.uniform(1.3, 2.0, 1000)

    def slowdown(seconds: float) -> float:
        last = int(np.searchsorted(begin_s, seconds)) - 1
        return float(times[last]) if last >= 0 and seconds < end_s[last] else 1.0

    return slowdown


@dataclass
class Device:
    """A machine.

    Attributes:
        scatter: sigma of a time's logarithm.
        spikes: share of graphs that take longer.
        spike: how many times as long at least and at most.
        slowdown: by the time in seconds: throttling, another process, clocks.
        idle_w, busy_w: power when idle, and what work adds.
        window_s: that the meter's mean is taken over.
    """

    seed: int = 0
    scatter: float = 0.03
    spikes: float = 0.002
    spike: tuple[float, float] = (3.0, 3.0)
    slowdown: Callable[[float], float] = lambda seconds: 1.0
    idle_w: float = 4.0
    busy_w: float = 10.0
    window_s: float = 1.0
    now_s: float = 0.0
    spent: deque[tuple[float, float, float]] = field(default_factory=deque)  # start, end, watts

    def __post_init__(self) -> None:
        self.chance = np.random.default_rng(self.seed)

    def factor(self) -> float:
        """How many times as long as its usual a graph takes now."""
        spike = self.chance.uniform(*self.spike) if self.chance.random() < self.spikes else 1.0
        return self.slowdown(self.now_s) * spike * math.exp(self.scatter * self.chance.standard_normal())

    def work(self, ms: float) -> None:
        self._pass(ms / 1000, self.idle_w + self.busy_w)

    def wait(self, seconds: float) -> None:
        self._pass(seconds, self.idle_w)

    def _pass(self, seconds: float, watts: float) -> None:
        self.spent.append((self.now_s, self.now_s + seconds, watts))
        self.now_s += seconds
        while self.spent[0][1] < self.now_s - self.window_s:
            self.spent.popleft()

    def watts(self) -> float:
        """The mean over the window."""
        since_s = self.now_s - self.window_s
        parts = [(end - max(start, since_s), watts) for start, end, watts in self.spent if end > since_s]
        return sum(seconds * watts for seconds, watts in parts) / sum(seconds for seconds, _ in parts)


@dataclass
class Seen:
    """What a run on a simulated device did, frame by frame."""

    buckets: list[str] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    smallest_ms: list[float] = field(
        default_factory=list
    )  # what the smallest bucket would have taken in the same frame
    asked_ms: list[float] = field(default_factory=list)  # what the bucket that it asked for would have taken
    asked: list[str] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)
    mj: list[float] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)

    def held(self, limit_ms: float, since: int = 0) -> float:
        """Share of frames within the limit, of those in which the smallest bucket would have been."""
        judged = [
            latency <= limit_ms
            for latency, smallest in zip(self.latency_ms[since:], self.smallest_ms[since:], strict=True)
            if smallest <= limit_ms
        ]
        return sum(judged) / len(judged)

    def asked_holds(self, limit_ms: float) -> float:
        """Share of frames in which what they asked for would have been within the limit, of those that the smallest holds."""
        judged = [
            asked <= limit_ms
            for asked, smallest in zip(self.asked_ms, self.smallest_ms, strict=True)
            if smallest <= limit_ms
        ]
        return sum(judged) / len(judged)

    def got(self, limit_ms: float, since: int = 0) -> float | None:
        """Share of frames that got what they asked for, of those in which that would have been within the limit; None where
        there are none."""
        frames = list(zip(self.asked, self.buckets, self.asked_ms, strict=True))[since:]
        could = [bucket == asked for asked, bucket, took_ms in frames if took_ms <= limit_ms]
        return sum(could) / len(could) if could else None

    def longest_burst(self, limit_ms: float) -> int:
        """The most frames in a row that were over the limit though the smallest bucket would not have been."""
        longest = burst = 0
        for latency, smallest in zip(self.latency_ms, self.smallest_ms, strict=True):
            burst = burst + 1 if latency > limit_ms >= smallest else 0
            longest = max(longest, burst)
        return longest

    def changes(self, since: int = 0) -> int:
        """How often a frame had another bucket than the one before, where every frame asks for the same."""
        buckets = self.buckets[since:]
        return sum(one != other for one, other in pairwise(buckets))


def governed(device: Device, budget: str, idle_w: float | None = None) -> Governor:
    """A governor that measured the device first, as a run does."""
    tails = {name: [ms * device.factor() for _ in range(START_RUNS)] for name, ms in TAILS_MS.items()}
    trunk = [TRUNK_MS * device.factor() for _ in range(START_RUNS)]
    costs = BucketCosts(tails, trunk)
    governor = Governor(parse_budget(budget), list(TAILS_MS), costs, device.watts, now=lambda: device.now_s)
    governor.idle_w = idle_w or 0.0
    return governor


def play(
    device: Device,
    governor: Governor,
    frames: int,
    asked: Callable[[int], str] = lambda index: "full",
    fps: float | None = None,
    between_ms: float = 1.0,
) -> Seen:
    """A loop over frames that ask for buckets; a camera of `fps`, or a file that waits for nobody."""
    seen = Seen()
    due_s = device.now_s
    for index in range(frames):
        began_s = device.now_s
        factor = device.factor()
        trunk_ms = TRUNK_MS * factor * math.exp(0.02 * device.chance.standard_normal())
        device.work(trunk_ms)
        bucket = governor.choose(asked(index), trunk_ms, trunk_ms)
        seen.asked.append(asked(index))
        own = device.factor() / device.slowdown(began_s)  # a tail is late by itself as well
        own *= factor
        device.work(TAILS_MS[bucket] * own)
        latency_ms = 1000 * (device.now_s - began_s)
        governor.learn(bucket, TAILS_MS[bucket] * own, latency_ms)
        device.work(between_ms)
        governor.between(between_ms)
        seen.buckets.append(bucket)
        seen.latency_ms.append(latency_ms)
        seen.smallest_ms.append(trunk_ms + TAILS_MS["k256"] * own)
        seen.asked_ms.append(trunk_ms + TAILS_MS[seen.asked[-1]] * own)
        if fps:
            due_s = max(due_s + 1 / fps, device.now_s)
            device.wait(due_s - device.now_s)
        seen.watts.append(device.watts())
        seen.mj.append(1000 * device.watts() * (device.now_s - began_s))
        seen.at_s.append(device.now_s)
    return seen
