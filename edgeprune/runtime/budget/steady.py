"""Which of the buckets that would be in time is taken: down at once, up after a few frames, and so many changes at most.

A frame that a larger bucket would be late in gets a smaller one, whatever it costs. To go up again is worth a change up and
soon another one down, and these are paid from a purse that fills slowly: however the machine behaves, buckets do not
change more often.
"""

PATIENCE = 4  # frames in a row in which a larger bucket would be in time, before it is taken
EARNED = 1 / 32  # changes a frame
MOST_SAVED = 4.0  # changes


class Steady:
    """The largest bucket that may run, by its place in the manifest; the smallest is 0. After n frames it has changed
    MOST_SAVED + n EARNED times or fewer, but for a way down in several steps."""

    def __init__(self, index: int):
        self.index = index
        self._saved = MOST_SAVED
        self._larger: list[
            int
        ] = []  # what would have been in time, of the frames in a row in which more than this would

    def update(self, fits: int) -> int:
        """One frame later.

        Args:
            fits: the largest bucket that would be in time; -1: none.

        Returns:
            the place that is allowed.
        """
        fits = max(fits, 0)
        self._saved = min(self._saved + EARNED, MOST_SAVED)
        if fits <= self.index:
            self._larger.clear()
            if fits < self.index:
                self._go(fits)
            return self.index
        self._larger = [*self._larger[1 - PATIENCE :], fits]
        if len(self._larger) == PATIENCE and self._saved >= 2:
            self._go(min(self._larger))
        return self.index

    def _go(self, index: int) -> None:
        self.index = index
        self._saved -= 1
        self._larger.clear()
