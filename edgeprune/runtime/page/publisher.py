"""Between the loop and its viewers: the loop leaves the newest frame and its row here, and others take them when they want.

Storing one takes the loop some microseconds whoever watches: a reference and a few sums, under a lock that no other thread
holds for longer than it takes to copy them.
"""

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from edgeprune.runtime.about import About
from edgeprune.runtime.cameras.source import FrameSource
from edgeprune.runtime.row import STAGES, Row
from edgeprune.runtime.tasks import Result

WINDOW_S = 60.0  # what charts and percentiles are of
MOST_RECENT = 6000  # rows that are kept for them: a minute of 100 frames a second
MOST_FAULTS = 20
SILENT_S, SILENT_FRAMES = 5.0, 3  # without a frame for that long, or as long as so many take, a run counts as silent
# upper bounds of the histogram of latency, in seconds; a Jetson's frame and that of a slow CPU both lie well inside
LATENCY_BOUNDS_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


class Shown(NamedTuple):
    """A frame: its number among those of the run, from 1, what was found in it, and its row."""

    number: int
    result: Result
    row: Row


class Recent(NamedTuple):
    """What charts need of a row; at_s by the monotonic clock; watts of the machine then, None where no sensor tells."""

    at_s: float
    latency_ms: float
    token_share: float
    dropped: int
    watts: float | None


class Fault(NamedTuple):
    """A line that the run warned of, and when: seconds since 1970."""

    at_s: float
    line: str


@dataclass
class Totals:
    """Sums since the first frame.

    Attributes:
        buckets: frames of each.
        stages_ms: of each stage that ran.
        latencies: frames by LATENCY_BOUNDS_S, those above the last included.
    """

    frames: int = 0
    dropped: int = 0
    tokens: int = 0
    faults: int = 0
    latency_ms: float = 0.0
    buckets: Counter[str] = field(default_factory=Counter)
    stages_ms: Counter[str] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)


class Taken(NamedTuple):
    """What is known at one moment: copies of the publisher's own."""

    shown: Shown | None
    totals: Totals
    recent: list[Recent]
    faults: list[Fault]


class Publisher:
    """The latest of a run, for any thread.

    Args:
        source: whose frames they are; only its attributes are read.

    Attributes:
        about: what the run is of; None until that is known.
        began_s: when it was made, in seconds since 1970: what tells one run from the next on the same port.
        ended: whether its camera gives no more frames, while others of the run may.
    """

    def __init__(self, source: FrameSource):
        self.source = source
        self.about: About | None = None
        self.began_s = time.time()
        self.ended = False
        self._lock = threading.Lock()
        self._shown: Shown | None = None
        self._totals = Totals()
        self._recent: deque[Recent] = deque(maxlen=MOST_RECENT)
        self._faults: deque[Fault] = deque(maxlen=MOST_FAULTS)

    def publish(self, result: Result, row: Row) -> None:
        """Takes a frame, in the thread that has the outputs."""
        at_s = row.end_ns / 1e9
        recent = Recent(at_s, row.latency_ms, result.facts.token_share, row.dropped, row.watts)
        stages = [(stage, ms) for stage in STAGES if (ms := getattr(row, f"{stage}_ms")) is not None]
        with self._lock:
            totals = self._totals
            totals.frames += 1
            totals.dropped += row.dropped
            totals.tokens += row.tokens
            totals.latency_ms += row.latency_ms
            totals.buckets[row.bucket] += 1
            totals.latencies[bisect_left(LATENCY_BOUNDS_S, row.latency_ms / 1000)] += 1
            for stage, ms in stages:
                totals.stages_ms[stage] += ms
            self._recent.append(recent)
            while self._recent[0].at_s < at_s - WINDOW_S:
                self._recent.popleft()
            self._shown = Shown(totals.frames, result, row)

    def warn(self, line: str) -> None:
        """Takes a line that the run warned of, in whatever thread."""
        fault = Fault(time.time(), line)
        with self._lock:
            self._totals.faults += 1
            self._faults.append(fault)

    @property
    def faults(self) -> int:
        """How many such lines there were until now, whichever camera they are of."""
        return self._totals.faults

    @property
    def shown(self) -> Shown | None:
        """The newest frame; None before the first."""
        return self._shown

    def take(self) -> Taken:
        """All of it, at this moment; rows of the last WINDOW_S."""
        with self._lock:
            recent, faults = list(self._recent), list(self._faults)
            totals = Totals(**vars(self._totals))
            totals.buckets, totals.stages_ms = totals.buckets.copy(), totals.stages_ms.copy()
            totals.latencies = totals.latencies.copy()
            shown = self._shown
        since_s = time.monotonic() - WINDOW_S
        return Taken(shown, totals, [each for each in recent if each.at_s >= since_s], faults)

    def map_tokens(self, seconds: float = 0.0) -> bool:
        """Whether frames have a map of their tokens; asks for those of the next so many seconds."""
        return self.about.map_tokens(seconds) if self.about else False

    @property
    def damaged(self) -> int:
        """Frames that were left out because they decode badly."""
        return self.about.damaged() if self.about else 0

    def silence(self) -> str | None:
        """Why the run counts as silent; None while frames come."""
        shown = self._shown
        if self.ended:
            return "it has ended"
        if shown is None:
            return "no frame yet"
        silent_s = time.monotonic() - shown.row.end_ns / 1e9
        slow_s = SILENT_FRAMES * max(1 / (self.source.fps or 1e9), shown.row.latency_ms / 1000)
        return f"no frame for {silent_s:.0f} s" if silent_s > max(SILENT_S, slow_s) else None
