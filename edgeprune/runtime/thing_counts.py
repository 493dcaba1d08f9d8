"""How many things of each class frames have, summed over a run: so much to hold as there are classes, however long it lasts."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ThingFigures:
    """The things of a class.

    Attributes:
        mean: of a frame.
        most: in one frame.
        frames: in which there is one.
    """

    mean: float
    most: int
    frames: int


class ThingCounts:
    """Sums over the frames whose things were counted."""

    def __init__(self) -> None:
        self._counted = 0
        self._things: Counter[str] = Counter()
        self._frames: Counter[str] = Counter()
        self._most: dict[str, int] = {}

    def add(self, counts: Mapping[str, int] | None) -> None:
        """A frame's things by the names of their classes; None: nobody counted them."""
        if counts is None:
            return
        self._counted += 1
        for name, count in counts.items():
            self._things[name] += count
            self._frames[name] += count > 0
            self._most[name] = max(count, self._most.get(name, 0))

    def __len__(self) -> int:
        """The classes of which there was one."""
        return len(self._most)

    def figures(self) -> dict[str, ThingFigures] | None:
        """Of each class of which there was one, by its name; None where no frame's things were counted."""
        if not self._counted:
            return None
        return {
            name: ThingFigures(self._things[name] / self._counted, most, self._frames[name])
            for name, most in sorted(self._most.items())
        }
