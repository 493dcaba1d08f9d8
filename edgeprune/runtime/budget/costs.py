"""What each bucket's tail takes, learned while it runs, from a measured start.

All graphs of one engine on one machine slow down together (throttling, another process), so a tail's time is taken as `base of
the bucket x slowdown x scatter`. The trunk of the frame in hand has just run when a bucket is chosen: what it took tells the
slowdown of this very frame, and the scatter that counts is that of tails over the trunks before them.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import numpy as np

RECENT = 31  # frames, for what is usual now
SCATTER_FRAMES = 512  # whose scatter is kept
HELD = 0.995  # share of frames that the high estimate covers; a budget is to be held by 0.99
RENEWED = 8  # frames between two looks at the scatter, which costs 30 microseconds
LEARNED = 0.02  # of what a frame says of its bucket's base; more of the first ones
TRUSTED_RUNS = 3  # what a bucket's measured start counts, which a passing moment may have spoilt, in frames
LEAST_SCATTER = 1.02
NEARLY = 0.95


def nearly_most(recent: Iterable[float]) -> float:
    """The largest but for one in twenty: what a bucket has to stand if it is not to be taken back every few frames."""
    ordered = sorted(recent)
    return ordered[math.ceil(NEARLY * len(ordered)) - 1]


class BucketCosts:
    """Predicts tails, in milliseconds. `notice_trunk` and `learn` in turn, once for each frame.

    Args:
        tails_ms: of each bucket, smallest first, some times of its tail, measured before the first frame. One that took longer
            than a larger one was disturbed, and counts as that.
        trunk_ms: some times of the trunk.
    """

    def __init__(self, tails_ms: Mapping[str, Sequence[float]], trunk_ms: Sequence[float]):
        usual_ms = [median(times) for times in tails_ms.values()]
        self._base_ms = {bucket: min(usual_ms[place:]) for place, bucket in enumerate(tails_ms)}
        self._trunk_ms = median(trunk_ms)
        self._runs = dict.fromkeys(tails_ms, TRUSTED_RUNS)
        self._slower: deque[float] = deque([1.0], maxlen=RECENT)  # than at the start, by tails
        scatter = [ms / self._base_ms[bucket] for bucket, times in tails_ms.items() for ms in times]
        self._scatter: deque[float] = deque(scatter, maxlen=SCATTER_FRAMES)
        self._slow = self._trunk_slower = 1.0  # recent frames, nearly the slowest of them; and the frame in hand
        self._renew()

    def slowdown(self) -> float:
        """How many times slower than at the start the machine is."""
        return median(self._slower)

    def notice_trunk(self, trunk_ms: float) -> None:
        """The trunk of the frame in hand."""
        self._trunk_slower = trunk_ms / self._trunk_ms

    def notice_slower(self, times: float) -> None:
        """The machine has just become so many times slower, by what it says of itself: its clocks were lowered."""
        self._slower.extend([self.slowdown() * times] * RECENT)
        self._slow = nearly_most(self._slower)

    def typical_ms(self, bucket: str) -> float:
        """What the tail takes usually, as the machine is."""
        return self._base_ms[bucket] * self.slowdown()

    def holds(self, bucket: str, smallest: str, left_ms: float, in_hand: bool) -> bool:
        """Whether a tail ends in time, but for one in 200 of those frames in which the smallest bucket's would: a frame so late
        that no bucket helps argues for none.

        Args:
            left_ms: what is left for it.
            in_hand: of the frame whose trunk was noticed; else as the machine is in the slower of recent frames.
        """
        slower = self._trunk_slower if in_hand else self._slow
        return self._base_ms[bucket] * slower * self._high(left_ms / (self._base_ms[smallest] * slower)) <= left_ms

    def learn(self, bucket: str, tail_ms: float) -> None:
        """The tail of the frame in hand."""
        slower = tail_ms / self._base_ms[bucket]
        scatter = slower / self._trunk_slower
        self._slower.append(slower)
        self._slow = nearly_most(self._slower)
        self._scatter.append(scatter)
        # by the trunk of the same frame: a slowdown that lasts belongs to all buckets, whichever of them run in it
        self._base_ms[bucket] *= scatter ** max(LEARNED, 1 / self._runs[bucket])
        self._runs[bucket] += 1
        self._frames_until_renewed -= 1
        if self._frames_until_renewed == 0:
            self._renew()

    def _renew(self) -> None:
        self._frames_until_renewed = RENEWED
        self._ordered = np.sort(np.array(self._scatter))

    def _high(self, most: float) -> float:
        """The scatter that one tail in 200 exceeds, of those whose scatter is `most` or less."""
        count = int(np.searchsorted(self._ordered, most, side="right"))
        beyond = math.ceil((1 - HELD) * count)  # at least one: of few, the largest may be a mere accident
        return max(LEAST_SCATTER, float(self._ordered[max(0, count - 1 - beyond)]))
