"""What a task adds to training: what its targets are, what is learnt from them, and how well.

Shapes: B batch, H W pixels, N tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from edgeprune.model.heads.head import Raw
from edgeprune.model.network import Network, Prediction

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


class Task(Protocol):
    """One task in one phase. `ignore_index` marks pixels without a class in `labels`."""

    ignore_index: int

    def augment(self, images_B3HW: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        """uint8 images and targets as they were read -> levels 0-255 as float, with targets that moved along."""
        ...

    def labels(self, targets: Targets) -> Tensor | None:
        """A class for each pixel, (B, H, W) int64, for policies that learn from them; None where the task has none."""
        ...

    def counted(self, targets: Targets) -> Tensor:
        """How much of the targets there is to learn, as a scalar: what the mean in `loss` divides by."""
        ...

    def loss(self, prediction: Prediction, targets: Targets) -> Tensor:
        """What is wrong with the prediction, as a scalar."""
        ...

    def distance(self, prediction: Prediction, taught: Taught) -> Tensor:
        """How far the prediction is from what its teachers say, as a scalar."""
        ...

    def score(self, model: Network) -> dict[str, float]:
        """The recipe's validation: figures by the names that the history has them under."""
        ...
