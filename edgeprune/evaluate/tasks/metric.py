"""How a task is scored: targets are looked at once a frame, outputs once a frame and row."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

from edgeprune.bundle import Bundle
from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet
from edgeprune.runtime.engines.engine import Outputs


class RowScores(Protocol):
    """The scores of one row."""

    def add(self, outputs: Outputs, sample: Sample) -> None:
        """Adds what a graph answered to a frame.

        Raises:
            InputError: a target that can't be scored, or an output that is missing.
        """

    def result(self) -> dict[str, Any]:
        """Figures by name, `Metric.figure` among them; None where nothing was scored."""


class Metric(ABC):
    """A row of METRICS: the scoring of one bundle on one data set.

    Attributes:
        figure: the name of the one that precisions are chosen by, 0 to 1, more is better.
        scored_share: of the frames looked at, the share of pixels that lies inside the bundle's region, which alone is scored;
            None: it has none, and all is scored.
    """

    figure: str
    scored_share: float | None = None

    @abstractmethod
    def __init__(self, bundle: Bundle, data_set: DataSet, frames: int):
        """
        Args:
            frames: of the split.

        Raises:
            InputError: classes that aren't the model's.
        """

    @abstractmethod
    def look_at(self, sample: Sample, origin: str) -> None:
        """Counts what the targets of a frame hold."""

    @abstractmethod
    def check(self) -> None:
        """Refuses targets that can't be scored. Raises InputError."""

    @abstractmethod
    def scores(self) -> RowScores:
        """The scores of a new row."""
