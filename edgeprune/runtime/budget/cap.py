"""How far up a run may go: down at once, up one bucket at a time, and more slowly after each time that it had to come back."""

FIRST_PATIENCE = 16  # frames in which a larger bucket would have fitted, before it is tried
MOST_PATIENCE = 1024


class Cap:
    """The largest bucket that may run, by its place in the manifest; the smallest is 0."""

    def __init__(self, index: int):
        self.index = index
        self._patience = FIRST_PATIENCE
        self._fitted = 0  # frames in a row in which a larger one would have fitted
        self._since_advance: int | None = None

    def update(self, fits: int) -> int:
        """One frame later.

        Args:
            fits: the largest bucket that would fit by all that is known; -1: none does.

        Returns:
            the place that is allowed.
        """
        fits = max(fits, 0)
        if self._since_advance is not None:
            self._since_advance += 1
        if fits < self.index:
            if self._since_advance is not None:  # an advance that did not last
                self._patience = min(2 * self._patience, MOST_PATIENCE)
            self.index, self._fitted, self._since_advance = fits, 0, None
        elif fits > self.index:
            self._fitted += 1
            if self._fitted >= self._patience:
                self.index, self._fitted, self._since_advance = self.index + 1, 0, 0
        else:
            self._fitted = 0
        if self._since_advance is not None and self._since_advance > 8 * self._patience:  # it lasted
            self._patience, self._since_advance = max(self._patience // 2, FIRST_PATIENCE), None
        return self.index
