"""How a task is scored: targets are looked at once a frame, outputs once a frame and row."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle, Manifest
from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet
from edgeprune.runtime.engines.engine import Outputs

Columns = Mapping[str, tuple[str, str]]


class RowScores(Protocol):
    """The scores of one row."""

    def add(self, outputs: Outputs, sample: Sample) -> None:
        """Adds what a graph answered to a frame.

        Raises:
            InputError: a target that can't be scored, or an output that is missing.
        """

    def result(self) -> dict[str, Any]:
        """Figures by name, `Metric.figure` among them; None where nothing was scored."""


class KeptAnswers(Protocol):
    """What graphs answered to frames; any of it can be scored together: a study gives each frame the bucket that it wants."""

    def add(self, outputs: Outputs, sample: Sample) -> None:
        """Adds an answer. Raises InputError as `RowScores.add`."""

    def figure_of(self, places: Sequence[int]) -> float | None:
        """The `Metric.figure` of the answers at these places, from 0 in the order in which they were added; one that is named
        twice counts twice."""


class Metric(ABC):
    """A row of METRICS: the scoring of one bundle on one data set.

    Attributes:
        figure: the name of the one that precisions are chosen by, 0 to 1, more is better.
        columns: the figures that a table of scores has, in order, each with its header and the format of its values.
        brief: those of them that stand beside times, in `bench`; `figure` is the first.
        by_class: the figure that has a value for each class by its name, and what a person calls it.
        legend: a line for who reads a table of its figures, whatever the data set; None: they need none.
        unmeasured: by the name of a figure that a table may lack, the line that is told then.
        things: whether it scores the things of a frame (`Sample.things`), which a split has to be opened with.
        scored_share: of the frames looked at, the share of pixels that lies inside the bundle's region, which alone is scored;
            None: it has none, and all is scored.
    """

    figure: str
    columns: ClassVar[Columns]
    brief: Sequence[str]
    by_class: tuple[str, str]
    legend: str | None = None
    unmeasured: ClassVar[dict[str, str]] = {}
    things: bool = False
    scored_share: float | None = None

    @abstractmethod
    def __init__(self, bundle: Bundle, data_set: DataSet, frames: int):
        """
        Args:
            frames: of the split.

        Raises:
            InputError: classes that aren't the model's.
        """

    @staticmethod
    def check_library() -> None:
        """Raises InputError where what computes it can't be imported here; by default there is nothing to import."""
        return

    @classmethod
    def called(cls) -> str:
        """What a person calls its `figure`."""
        return cls.columns[cls.figure][0]

    @staticmethod
    def notes(data_set: DataSet) -> list[str]:
        """What a person has to know who reads a table of its figures, in lines."""
        return []

    @abstractmethod
    def look_at(self, sample: Sample, origin: str) -> None:
        """Counts what the targets of a frame hold."""

    @abstractmethod
    def check(self) -> None:
        """Refuses targets that can't be scored. Raises InputError."""

    @abstractmethod
    def scores(self) -> RowScores:
        """The scores of a new row."""

    @staticmethod
    @abstractmethod
    def answers(manifest: Manifest, data_set: DataSet) -> KeptAnswers:
        """None yet, of a bundle's graphs on frames of a data set, whose classes may be others than the bundle's."""


def check_classes(names: Sequence[str], whose: str, data_set: DataSet) -> None:
    """Refuses a data set whose classes aren't the model's.

    Args:
        names: the model's classes.
        whose: what has them, such as `bundle out/bundle`.

    Raises:
        InputError: names the first difference.
    """
    if len(names) != len(data_set.names):
        raise InputError(
            f"data set {data_set.name!r} has {len(data_set.names)} classes, {whose} {len(names)}; "
            "score it on data with the classes that it was trained on"
        )
    for index, (ours, theirs) in enumerate(zip(names, data_set.names, strict=True)):
        if ours != theirs:
            raise InputError(
                f"class {index} is {theirs!r} in data set {data_set.name!r} but {ours!r} in {whose}; "
                "put the names of the data-set YAML in the order of the model's"
            )
