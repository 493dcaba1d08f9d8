"""What became of a frame's tokens where a bundle remembers the frames before, and the sums of a run."""

from dataclasses import dataclass
from typing import NamedTuple


class RememberedTokens(NamedTuple):
    """The tokens of a frame's grid.

    Attributes:
        computed: by the bucket's tail.
        carried: what was computed of them in a frame before stands.
        refreshed: of `computed`, those whose turn it was, changed or not.
    """

    computed: int
    carried: int
    refreshed: int


@dataclass(frozen=True)
class MemoryFigures:
    """The frames of a run that remembered.

    Attributes:
        frames: so many.
        computed, carried, refreshed: tokens of one of them, the mean; see `RememberedTokens`.
    """

    frames: int
    computed: float
    carried: float
    refreshed: float


class MemorySums:
    """Sums over the frames that remembered."""

    def __init__(self) -> None:
        self._frames = 0
        self._sums = RememberedTokens(0, 0, 0)

    def add(self, tokens: RememberedTokens) -> None:
        self._frames += 1
        self._sums = RememberedTokens(*(one + other for one, other in zip(self._sums, tokens, strict=True)))

    def figures(self) -> MemoryFigures | None:
        """None where no frame remembered."""
        if not self._frames:
            return None
        return MemoryFigures(self._frames, *(value / self._frames for value in self._sums))
