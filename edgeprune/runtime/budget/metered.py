"""Holds what a meter shows, which comes late and is the mean of a while: one bucket down when it is over, one up after a time
in which it was under, and not where it is known, or to be expected, that the larger bucket takes too much."""

from collections.abc import Callable

MEAN_S = 4.0  # that a value is smoothed over
SETTLE_S = 2.0  # after a change of bucket the meter's mean still holds what was before
LOST_S = 10.0  # without a value
PATIENCE_S = 4.0  # under the limit for as long, before a larger bucket is tried; doubled by each one that did not hold
MOST_PATIENCE_S = 256.0
ROOM = 0.97  # of the limit, that a larger bucket is expected to take at most
FORGOTTEN_S = 300.0  # what a larger bucket took so long ago says nothing more: the room may be cooler


class Metered:
    """The largest bucket that a limit on a measured quantity allows. It begins with the smallest.

    Args:
        limit: in the unit of the quantity.
        expected: of what is measured in one bucket (the quantity, its place, the place of a larger one), what the larger one
            would take; it may be too much, but not too little.
        count: of the buckets.
        now: seconds by a monotonic clock.
    """

    def __init__(
        self, limit: float, count: int, expected: Callable[[float, int, int], float], now: Callable[[], float]
    ):
        self.limit = limit
        self.index = 0
        self._count, self._expects, self._now = count, expected, now
        self._seen: dict[int, tuple[float, float]] = {}  # what was measured at an index, and when
        self._changed_s = self._noted_s = now()
        self._heard_s: float | None = None  # the frames may begin long after this
        self._mean: float | None = None
        self._patience_s = PATIENCE_S
        self._advanced = False

    @property
    def lost(self) -> bool:
        """Whether the meter has said nothing for LOST_S: the smallest bucket then, as nobody knows what is taken."""
        return self._heard_s is not None and self._now() - self._heard_s > LOST_S

    def update(self, value: float | None) -> int:
        """One frame later.

        Args:
            value: the mean of the meter's window now; None where it has none yet.

        Returns:
            the place that is allowed.
        """
        now_s = self._now()
        here_s = now_s - self._changed_s
        self._heard_s = now_s if value is not None or self._heard_s is None else self._heard_s
        if value is None:
            if self.lost and self.index > 0:
                self._move(0, now_s, advanced=False)
            return self.index
        if here_s < SETTLE_S:
            return self.index
        mean = self._smoothed(value, now_s)
        self._seen[self.index] = mean, now_s
        if mean > self.limit:
            if self.index > 0:
                if self._advanced:
                    self._patience_s = min(2 * self._patience_s, MOST_PATIENCE_S)
                self._move(self.index - 1, now_s, advanced=False)
        elif here_s >= self._patience_s and self.index + 1 < self._count:
            if self._expected(mean, now_s) <= ROOM * self.limit:
                self._move(self.index + 1, now_s, advanced=True)
        elif self._advanced and here_s >= 4 * self._patience_s:  # it held
            self._patience_s, self._advanced = max(PATIENCE_S, self._patience_s / 2), False
        return self.index

    def _smoothed(self, value: float, now_s: float) -> float:
        """The mean of the last MEAN_S or so in this bucket: one slow frame in a meter's window is no reason to go."""
        if self._mean is None:
            self._mean = value
        self._mean += (value - self._mean) * min(1.0, (now_s - self._noted_s) / MEAN_S)
        self._noted_s = now_s
        return self._mean

    def _move(self, index: int, now_s: float, advanced: bool) -> None:
        self.index, self._changed_s, self._advanced = index, now_s, advanced
        self._mean, self._noted_s = None, now_s

    def _expected(self, value: float, now_s: float) -> float:
        """Of the next larger bucket."""
        seen, seen_s = self._seen.get(self.index + 1, (0.0, -FORGOTTEN_S))
        if seen and now_s - seen_s < FORGOTTEN_S:
            return seen
        return self._expects(value, self.index, self.index + 1)
