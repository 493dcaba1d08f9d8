"""Holds a budget: each frame gets the bucket that it asks for, or a smaller one where that would take too much."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean, median

from edgeprune.runtime.budget.cap import Cap
from edgeprune.runtime.budget.costs import RECENT, BucketCosts
from edgeprune.runtime.budget.metered import Metered
from edgeprune.runtime.budget.risk import Risk
from edgeprune.runtime.budget.steady import Steady
from edgeprune.runtime.budget.wanted import Budget

logger = logging.getLogger(__name__)

MEAN_S = 1.0  # a rate and a frame's interval are means of so long
FULL_RATE = 0.97  # of the time that a rate leaves: the loop is to keep up, not to fall behind by chance
SAID_EVERY_S = 60.0  # that even the smallest bucket does not hold the budget
SHORT_FRAMES = 32  # of which more than half were over, before that is said
HELP = "what would help: a faster precision or engine (`edgeprune bench`), {}a model of a lower input"
FASTEST = "the fastest power mode, "
# by limit, what else would help
HELPS = {
    "ms": HELP.format(FASTEST),
    "fps": HELP.format(FASTEST + "fewer outputs, "),
    "W": HELP.format("a power mode that takes less, a camera of fewer frames a second, "),
    "mJ": HELP.format("another power mode (`edgeprune energy`), "),
}


class Governor:
    """The budget of one stream. `choose`, `learn` and `between` in turn, once for each frame; `ended` for one without a tail.

    Args:
        budget: what may be taken.
        buckets: their names, smallest first, of those that can run here.
        costs: measured at the start.
        watts: the power now, the mean of a meter's window; None without a meter, which a metered budget can't do without.
        throttled: which clock's limit the machine has lowered since it was asked before, and by how many times; None: none.
        now: seconds by a monotonic clock.

    Attributes:
        idle_w: power when idle; while it is 0, not known, a larger bucket is expected to take more power than it will.
    """

    def __init__(
        self,
        budget: Budget,
        buckets: Sequence[str],
        costs: BucketCosts,
        watts: Callable[[], float | None] | None = None,
        throttled: Callable[[], tuple[str, float] | None] = lambda: None,
        *,
        now: Callable[[], float] = time.monotonic,
    ):
        self.budget, self.buckets, self.costs = budget, list(buckets), costs
        self._watts, self._throttled, self._now = watts or (lambda: None), throttled, now
        self._steady, self._cap = Steady(len(self.buckets) - 1), Cap(len(self.buckets) - 1)
        self.idle_w = 0.0
        self._power = (
            None if budget.power_w is None else Metered(budget.power_w, len(buckets), self._expected_power, now)
        )
        self._energy = (
            None if budget.energy_mj is None else Metered(budget.energy_mj, len(buckets), self._expected_energy, now)
        )
        self._risk = Risk()
        self._before_ms: deque[float] = deque([0.0], maxlen=RECENT)  # from the frame in hand to the choice
        # the loop's own work, from labels to the next frame
        self._between_ms: deque[float] = deque([0.0], maxlen=RECENT)
        self._beside_ms: deque[float] = deque([0.0], maxlen=RECENT)  # what is done with results beside the graphs
        self._ends_s: deque[float] = deque()
        self._over: deque[bool] = deque(maxlen=SHORT_FRAMES)
        self._took_ms: deque[float] = deque(maxlen=SHORT_FRAMES)
        self._said_s: float | None = None
        self._say_what_cannot_be_held()

    def choose(self, asked: str, trunk_ms: float, spent_ms: float) -> str:
        """The bucket of a frame whose trunk has run.

        Args:
            asked: the one that it asks for.
            trunk_ms: what its trunk took.
            spent_ms: all that it has taken so far.
        """
        self.costs.notice_trunk(trunk_ms)
        self._before_ms.append(spent_ms)
        in_time = self._in_time(spent_ms)
        if lowered := self._throttled():
            logger.warning(f"the machine lowered its clock {lowered[0]} to {100 / lowered[1]:.0f}%")
            self.costs.notice_slower(lowered[1])
            self._before_ms.extend([median(self._before_ms) * lowered[1]] * RECENT)
            in_time = self._in_time(median(self._before_ms))
        most = min(self._steady.update(in_time), self._cap.update(self._keeps_up()))
        for metered, value in ((self._power, self._watts), (self._energy, self._mj_per_frame)):
            if metered:
                most = min(most, metered.update(value()))
        return self.buckets[min(most, self.buckets.index(asked))]

    def learn(self, bucket: str, tail_ms: float, latency_ms: float) -> None:
        """What the chosen tail, and the frame, took."""
        self.costs.learn(bucket, tail_ms)
        if (limit_ms := self.budget.latency_ms) is not None:
            smallest_ms = latency_ms - tail_ms + self.costs.smallest_would_ms(bucket, self.buckets[0], tail_ms)
            self._risk.learn(late=latency_ms > limit_ms >= smallest_ms)
        self.ended()
        self._say_where_it_fails(bucket, latency_ms)

    def ended(self) -> None:
        """A frame has ended; by itself for one of which no tail ran, and so nothing was chosen."""
        self._ends_s.append(self._now())
        while self._ends_s[-1] - self._ends_s[0] > MEAN_S and len(self._ends_s) > 2:
            self._ends_s.popleft()

    def pause(self) -> None:
        """Frames go on without it: the time until it is asked again is none between two of them."""
        self._ends_s.clear()

    def between(self, work_ms: float, beside_ms: float = 0.0) -> None:
        """What the loop worked on a result before it asked for the next frame: overlay, outputs, a caller's own; and what of it
        is done beside the next frame's graphs, which no bucket makes less."""
        self._between_ms.append(work_ms)
        self._beside_ms.append(beside_ms)

    def _in_time(self, before_ms: float) -> int:
        """The place of the largest bucket that would end the frame in hand within the latency; -1: none would.

        Args:
            before_ms: from the frame in hand until the bucket is chosen.
        """
        if self.budget.latency_ms is None:
            return len(self.buckets) - 1
        left_ms = self.budget.latency_ms - before_ms
        for index in reversed(range(len(self.buckets))):
            may = self._risk.to_stay if index <= self._steady.index else self._risk.to_go_up
            if self.costs.late(self.buckets[index], self.buckets[0], left_ms) <= may:
                return index
        return -1

    def _keeps_up(self) -> int:
        """The place of the largest bucket that allows the rate, by what is usual (a frame that is late by itself says nothing
        of a mean); -1: none does."""
        if self.budget.fps is None:
            return len(self.buckets) - 1
        period_ms = FULL_RATE * 1000 / self.budget.fps
        if median(self._beside_ms) > period_ms:  # which no bucket makes less
            return -1
        most_ms = period_ms - median(self._before_ms) - median(self._between_ms)
        places = reversed(range(len(self.buckets)))
        return next((index for index in places if self.costs.typical_ms(self.buckets[index]) <= most_ms), -1)

    def _busy_ms(self, latency_ms: float) -> float:
        """What the loop takes for a frame: the longer of two, where outputs are written beside the graphs."""
        return max(latency_ms + median(self._between_ms), median(self._beside_ms))

    def _expected_power(self, watts: float, here: int, there: int) -> float:
        """Of another bucket, where frames come at their own rate: what is above idle grows with the time of a frame."""
        before_ms = median(self._before_ms)
        now_ms, then_ms = (before_ms + self.costs.typical_ms(self.buckets[index]) for index in (here, there))
        return self.idle_w + max(0.0, watts - self.idle_w) * then_ms / now_ms

    def _expected_energy(self, mj: float, here: int, there: int) -> float:
        """Of another bucket, as `_expected_power`."""
        interval_s = self._interval_s() or 0.0
        return interval_s * 1000 * self._expected_power(mj / (interval_s * 1000), here, there) if interval_s else mj

    def _mj_per_frame(self) -> float | None:
        """Power times the mean time from frame to frame."""
        watts, interval_s = self._watts(), self._interval_s()
        return None if watts is None or interval_s is None else 1000 * watts * interval_s

    def _interval_s(self) -> float | None:
        """The mean time from frame to frame."""
        frames = len(self._ends_s)
        return (self._ends_s[-1] - self._ends_s[0]) / (frames - 1) if frames > 1 else None

    def _say_where_it_fails(self, bucket: str, latency_ms: float) -> None:
        """A line, once in a while, where the smallest bucket is over the budget in most frames, or the meter is lost."""
        self._took_ms.append(latency_ms)
        over = self._over_budget(latency_ms)
        self._over.append(bucket == self.buckets[0] and over is not None)
        due = self._said_s is None or self._now() - self._said_s > SAID_EVERY_S
        if due and any(each and each.lost for each in (self._power, self._energy)):
            self._said_s = self._now()
            logger.warning(
                f"budget {self.budget}: the meter says nothing; {self.buckets[0]}, the smallest bucket, until it does"
            )
        elif over and due and len(self._over) == SHORT_FRAMES and fmean(self._over) > 0.5:
            frames = f"over it in {sum(self._over)} of {SHORT_FRAMES} frames; "
            self._say_not_held(over, self._usual(over), frames)

    def _say_what_cannot_be_held(self) -> None:
        """A line where the graphs alone take longer by what was measured at the start: there is no need to wait for frames."""
        least_ms, fps = self.costs.least_ms(), self.budget.fps
        for limit, most_ms in {"ms": self.budget.latency_ms, "fps": 1000 / fps if fps else None}.items():
            if most_ms is not None and least_ms > most_ms:
                self._say_not_held(limit, f"takes {least_ms:.1f} ms without fitting a frame")
                return

    def _say_not_held(self, limit: str, usual: str, frames: str = "") -> None:
        self._said_s = self._now()
        logger.warning(
            f"budget {self.budget} is not held: the smallest bucket, {self.buckets[0]}, {usual}; {frames}{HELPS[limit]}"
        )

    def _over_budget(self, latency_ms: float) -> str | None:
        """The limit, by its unit, that a frame just done is over."""
        budget, watts, mj = self.budget, self._watts(), self._mj_per_frame()
        busy_ms = self._busy_ms(latency_ms)
        if budget.latency_ms is not None and latency_ms > budget.latency_ms:
            return "ms"
        if budget.fps is not None and busy_ms > 1000 / budget.fps:
            return "fps"
        if budget.power_w is not None and watts is not None and watts > budget.power_w:
            return "W"
        if budget.energy_mj is not None and mj is not None and mj > budget.energy_mj:
            return "mJ"
        return None

    def _usual(self, limit: str) -> str:
        """What the smallest bucket takes of a limit, in words, by the recent frames."""
        took_ms, before_ms, between_ms = (median(each) for each in (self._took_ms, self._before_ms, self._between_ms))
        if limit == "ms":
            return f"takes {took_ms:.1f} ms, {before_ms:.1f} of them for fitting and the trunk"
        if limit == "fps":
            return (
                f"and what is done with its result let {1000 / self._busy_ms(took_ms):.1f} frames a second through, "
                f"{took_ms:.1f} ms and {max(between_ms, median(self._beside_ms)):.1f} ms each"
            )
        return f"runs at {self._watts():.1f} W" if limit == "W" else f"takes {self._mj_per_frame():.0f} mJ a frame"
