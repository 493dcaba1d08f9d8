"""What the head of a task is: from the network's tokens to the task's answer, in training and in a graph.

Shapes: B batch, N tokens of the grid, D width, C channels, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from edgeprune.model.heads.guided import Guided
from edgeprune.model.spec import ModelSpec

Array = npt.NDArray[Any]
Raw = (
    Any  # what a head computes and losses are made of: of the semantic task logits (B, K, H/S, W/S), S the label stride
)


class Head(nn.Module, ABC):
    """The last layers of a network.

    Attributes:
        label_stride: pixels of the frame for one of the label map.
        with_confidence: whether a graph gives a confidence map beside its answer, as a build asks for it.
        reduce: the linear that reads the tokens; nothing behind it hangs on their width.
    """

    label_stride: int
    reduce: nn.Linear
    with_confidence = False

    def __init__(self, width: int, spec: ModelSpec, skip_channels: Sequence[int]):
        """
        Args:
            width: of the tokens.
            spec: of the model: its classes, patch and label stride, and how many channels the head has.
            skip_channels: C of the stem's features at strides 4 and 8; empty where it has none.
        """
        super().__init__()
        self.label_stride = spec.label_stride

    def initialise(self) -> None:
        """Weights to begin with of what is not to begin as the network's other linears, which have theirs before."""
        return

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """What a graph that ends in this head gives, by name and in order."""

    @abstractmethod
    def forward(
        self, x_BND: Tensor, grid: tuple[int, int], skips: Sequence[Tensor], guided: Guided | None = None
    ) -> Raw:
        """
        Args:
            x_BND: the final tokens of the full grid, normalised.
            grid: (Gh, Gw), N = Gh Gw.
            skips: the stem's features at strides 4 and 8, or none.
            guided: queries that learn beside a head's own; of a head that has queries, in training.
        """

    @abstractmethod
    def with_early_exits(self, raw: Raw, frozen_BNK: Tensor, open_BN: Tensor, grid: tuple[int, int]) -> Raw:
        """The answer where tokens may have left early: those that are not open have the class logits that they left with."""

    @abstractmethod
    def decide(self, raw: Raw) -> tuple[Tensor, ...]:
        """The `outputs` of the first frame of the batch. Whole numbers, 0 to 255, leave a graph as bytes."""

    @abstractmethod
    def decided_from(self, raw: Raw) -> tuple[Tensor, ...]:
        """What each of the `outputs` is decided from: the input of its ArgMax, of the whole batch; else the output itself."""

    @abstractmethod
    def sure(self, raw: Raw) -> Tensor | None:
        """True for the entries of the first frame's outputs that rounding alone does not change; None: for all."""

    @abstractmethod
    def label_map(self, raw: Raw) -> Tensor:
        """The class of each pixel of the first frame, (h, w), at the label stride; 255 where it has none. For pictures."""

    def error(self, expected: Sequence[Array], got: Sequence[Array]) -> float:
        """The largest difference between two answers to a frame, of what each of their outputs is decided from; bytes, such as
        a confidence, follow from the rest."""
        floats = [pair for pair in zip(expected, got, strict=True) if np.issubdtype(pair[0].dtype, np.floating)]
        return max((float(np.abs(ours - theirs).max()) for ours, theirs in floats), default=0.0)

    def reference(self, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Of answers (F, ...) to a bundle's reference frames what it keeps: enough to say how alike those of an engine are."""
        return outputs
