"""What a task is to the device: what it makes of the graphs' outputs, and how alike two answers are."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeprune.bundle import Manifest
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.tasks.result import FrameFacts, Result
from edgeprune.runtime.tasks.things import Thing


@dataclass(frozen=True)
class Agreement:
    """How many of the entries of an answer, `of` so many that were compared, are equal in another: pixels, or things."""

    equal: int
    of: int

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(self.equal + other.equal, self.of + other.of)

    @property
    def share(self) -> float:
        """0 to 1; of nothing 1: two answers that have nothing do not differ."""
        return self.equal / self.of if self.of else 1.0


class Task(ABC):
    """A row of TASKS. One object per stream: it may keep what does not change from frame to frame."""

    @abstractmethod
    def __init__(self, manifest: Manifest):
        """`manifest`: of the bundle whose outputs it reads."""

    @abstractmethod
    def result(self, facts: FrameFacts, outputs: Outputs) -> Result:
        """The result of a frame; `outputs`: what `Session.finish` gave."""

    @staticmethod
    @abstractmethod
    def agreement(expected: Outputs, got: Outputs, sure: npt.NDArray[np.bool_] | None = None) -> Agreement:
        """How alike two answers to one frame are.

        Args:
            sure: the entries that count, such as pixels (H, W); None: all.
        """

    @staticmethod
    def find_things(
        outputs: Outputs,
        names: Sequence[str],
        fit: Preprocess,
        size: tuple[int, int],
        inside_hw: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[Thing, ...] | None:
        """The `things` of a result, where there is no bundle: for pictures of a model that is no graph yet. None of a task that
        finds no things.

        Args:
            names: of the classes, by their ids.
            size: height and width of the frame.
            inside_hw: True for the pixels of outputs inside a region; None: all are.
        """
        return None
