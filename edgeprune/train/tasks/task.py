"""What a task adds to training: what its targets are, what is learnt from them, and how well.

Shapes: B batch, H W pixels, N tokens, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.tasks.metric import RowScores
from edgeprune.model.heads.guided import Guided
from edgeprune.model.heads.head import Raw
from edgeprune.model.network import Network, Prediction
from edgeprune.model.policy import Select
from edgeprune.train.losses import distance_to_tokens
from edgeprune.train.recipe import Phase, Recipe

Targets = Any  # a batch's, as the task's data has them: of the semantic task labels (B, H, W)


@dataclass(frozen=True)
class Taught:
    """What the teachers of a phase say of a batch, with every token.

    Attributes:
        raws: of each teacher what its head computed; see `Prediction`.
        x_BND: the final tokens of the one whose tokens are learnt; None: no tokens are.
    """

    raws: Sequence[Raw]
    x_BND: Tensor | None = None

    def distance_of_tokens(self, prediction: Prediction, phase: Phase) -> Tensor:
        """How far the prediction's final tokens are from these (`distance_to_tokens`), weighed as the phase says; 0 where it
        learns none."""
        if not phase.distill_tokens:
            return prediction.x_BND.new_zeros((), dtype=torch.float32)
        assert self.x_BND is not None  # `check_teachers`
        return phase.distill_tokens * distance_to_tokens(prediction.x_BND, self.x_BND)


@dataclass(frozen=True)
class Judged:
    """What a network is worth on labelled frames.

    Attributes:
        figures: 0 to 1, by the names that the task's metric has for them (`evaluate/tasks`): always its `figure`; with details
            that of each class, as a mapping by its name, too.
        tokens: processed over all blocks, as a share of the dense model's; the mean over the frames.
    """

    figures: Mapping[str, Any]
    tokens: float


class Task(Protocol):
    """One task in one phase. `ignore_index` marks pixels without a class in `labels`.

    Attributes:
        things: whether its targets hold the things of a frame beside the labels; see `Mixture`.
    """

    things: ClassVar[bool]
    ignore_index: int

    def __init__(
        self, recipe: Recipe, phase: Phase, data_set: DataSet, histogram: list[float], device: torch.device
    ) -> None:
        """
        Args:
            histogram: share of each class among the pixels of the phase's data.
            device: what the phase trains on.
        """

    @staticmethod
    def check(recipe: Recipe, name: str, phase: Phase) -> None:
        """Refuses what of a phase means nothing to the task, by the recipe alone. Raises InputError."""
        ...

    def before_step(self, model: Network, progress: float) -> None:
        """Sets what of the model changes while the phase goes on. `progress`: the share of its steps that is done."""
        ...

    def augment(self, images_B3HW: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """uint8 images and targets as they were read -> levels 0-255 as float, with targets that moved along."""
        ...

    def labels(self, targets: Targets) -> Tensor | None:
        """A class for each pixel, (B, H, W) int64, for policies that learn from them; None where the task has none."""
        ...

    def guided(self, targets: Targets) -> Guided | None:
        """Queries that learn beside the head's own in a step; None where the phase has none, or the task no queries."""
        ...

    def counted(self, targets: Targets) -> Tensor:
        """How much of the targets there is to learn: what the mean in `loss` divides by. A scalar, or one number for each of
        the terms of `loss`."""
        ...

    def loss(self, prediction: Prediction, targets: Targets) -> Tensor:
        """What is wrong with the prediction, as a scalar, or as terms that are added up: each is a mean over what `counted`
        counts for it."""
        ...

    def distance(self, prediction: Prediction, taught: Taught) -> Tensor:
        """How far the prediction is from what its teachers say, as a scalar: by the task's own measure of answers, and
        `Taught.distance_of_tokens`."""
        ...

    def score(self, model: Network) -> dict[str, float]:
        """The recipe's validation: figures by the names that the history has them under."""
        ...

    @staticmethod
    def judge(
        model: Network,
        data_set: DataSet,
        samples: Samples,
        frames: int | None,
        select: Select | None,
        detail: bool = False,
    ) -> Judged:
        """What a network is worth on `frames` samples, spread evenly (None: on all of them), whatever it was trained by.

        Args:
            samples: with their things where the task has some (`evaluate.accuracy.open_scored`).
            select: how gates decide; None: the best tokens at the target ratios stay.
            detail: also what each class scores, and what takes its time.

        Raises:
            InputError: the samples have nothing that can be scored.
        """
        ...

    @staticmethod
    def scores(preprocess: Preprocess, data_set: DataSet) -> RowScores:
        """Scores of what a graph answers, as `judge` scores the network that it was made of."""
        ...
