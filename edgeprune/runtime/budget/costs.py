"""What each bucket's tail takes, learned while it runs, from a measured start.

All graphs of one engine on one machine slow down together (throttling, another process), so a tail's time is taken as `base of
the bucket x slowdown x scatter`. The trunk of the frame in hand has just run when a bucket is chosen: what it took tells the
slowdown of this very frame, and the scatter that counts is that of tails over the trunks before them, in the frames whose
trunks were most like it: a trunk that was slow by itself says less of its tail than one that is slow with the machine.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from operator import itemgetter
from statistics import median

RECENT = 31  # frames, for what is usual now
SCATTER_FRAMES = 512  # whose scatter is kept
ALIKE = 128  # of these, whose trunks are nearest to the one in hand
RENEWED = 8  # frames between two times that they are put in order, which takes 0.1 ms
LEARNED = 0.02  # of what a frame says of its bucket's base; more of the first ones
TRUSTED_RUNS = 3  # what a bucket's measured start counts, which a passing moment may have spoilt, in frames
LEAST_SCATTER = 1.02
PRIOR_LATE, PRIOR_FRAMES = (
    0.5,
    100.0,
)  # what is thought of a bucket before any frame: late in one of 200, and not sure of it


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
        # how much slower the trunk was than at the start, and the tail than its trunk
        self._scatter: deque[tuple[float, float]] = deque(((1.0, each) for each in scatter), maxlen=SCATTER_FRAMES)
        self._trunk_slower = 1.0  # of the frame in hand
        self._at_least, self._at_least_frames = 0.0, 0  # slower, as the machine said of itself, and for how many frames
        self._renew()
        self._alike = self._alike_to(1.0)

    def slowdown(self) -> float:
        """How many times slower than at the start the machine is."""
        return median(self._slower)

    def least_ms(self) -> float:
        """What the trunk and the smallest bucket's tail took at the start."""
        return self._trunk_ms + min(self._base_ms.values())

    def notice_trunk(self, trunk_ms: float) -> None:
        """The trunk of the frame in hand."""
        self._trunk_slower = trunk_ms / self._trunk_ms
        self._alike = self._alike_to(self._trunk_slower)
        self._at_least_frames -= 1

    def notice_slower(self, times: float) -> None:
        """The machine has just become so many times slower, by what it says of itself: its clocks were lowered."""
        self._at_least, self._at_least_frames = self.slowdown() * times, RECENT
        self._slower.extend([self._at_least] * RECENT)

    def typical_ms(self, bucket: str) -> float:
        """What the tail takes usually, as the machine is."""
        return self._base_ms[bucket] * self.slowdown()

    def smallest_would_ms(self, bucket: str, smallest: str, tail_ms: float) -> float:
        """What the smallest bucket's tail would have taken in a frame in which another one took `tail_ms`."""
        return tail_ms * self._base_ms[smallest] / self._base_ms[bucket]

    def late(self, bucket: str, smallest: str, left_ms: float) -> float:
        """The probability that a tail, of the frame whose trunk was noticed, ends too late though the smallest bucket's would
        not: a frame so late that no bucket helps argues for none.

        It is the share of like frames whose scatter would make it so, with PRIOR_LATE of PRIOR_FRAMES added: the mean of a beta
        distribution, as of few frames none late is no proof.

        Args:
            left_ms: what is left for it.
        """
        slower = max(self._trunk_slower, self._at_least if self._at_least_frames > 0 else 0.0)
        base_ms = self._base_ms[bucket]
        if base_ms * slower * LEAST_SCATTER > left_ms:
            return 1.0
        smallest_in_time = bisect_right(self._alike, left_ms / (self._base_ms[smallest] * slower))
        late = max(0, smallest_in_time - bisect_right(self._alike, left_ms / (base_ms * slower)))
        return (late + PRIOR_LATE) / (smallest_in_time + PRIOR_FRAMES)

    def learn(self, bucket: str, tail_ms: float) -> None:
        """The tail of the frame in hand."""
        slower = tail_ms / self._base_ms[bucket]
        scatter = slower / self._trunk_slower
        self._slower.append(slower)
        self._scatter.append((self._trunk_slower, scatter))
        # by the trunk of the same frame: a slowdown that lasts belongs to all buckets, whichever of them run in it
        self._base_ms[bucket] *= scatter ** max(LEARNED, 1 / self._runs[bucket])
        self._runs[bucket] += 1
        self._frames_until_renewed -= 1
        if self._frames_until_renewed == 0:
            self._renew()

    def _renew(self) -> None:
        self._frames_until_renewed = RENEWED
        ordered = sorted(self._scatter, key=itemgetter(0))
        self._trunks, self._by_trunk = [trunk for trunk, _ in ordered], [scatter for _, scatter in ordered]

    def _alike_to(self, trunk_slower: float) -> list[float]:
        """The scatter of the frames with the nearest trunks, in order."""
        trunks, first, last = self._trunks, 0, max(0, len(self._trunks) - ALIKE)
        while first < last:  # bisection: the window whose ends are equally far
            middle = (first + last) // 2
            if trunk_slower - trunks[middle] > trunks[middle + ALIKE] - trunk_slower:
                first = middle + 1
            else:
                last = middle
        return sorted(self._by_trunk[first : first + ALIKE])
