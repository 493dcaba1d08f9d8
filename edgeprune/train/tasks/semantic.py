"""The semantic task: each pixel has a class.

Shapes: B batch, K classes, H W pixels.
"""

from math import isnan
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.network import Network, Prediction
from edgeprune.model.policy import Select
from edgeprune.train.augment import Augment
from edgeprune.train.losses import (
    class_weights,
    counted_pixels,
    cross_entropy,
    dice_distance,
    distance_to_teacher,
    hard_cross_entropy,
    jaccard_distance,
)
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks.task import Judged, Taught
from edgeprune.train.validation import LabelsAtInput, open_validation, score


class Semantic:
    """Targets are labels (B, H, W): ids of classes, or `ignore_index`.

    Args:
        histogram: share of each class among the pixels of the phase's data.
        device: what the phase trains on.
    """

    things: ClassVar[bool] = False

    def __init__(
        self, recipe: Recipe, phase: Phase, data_set: DataSet, histogram: list[float], device: torch.device
    ) -> None:
        self.recipe, self.phase, self.ignore_index = recipe, phase, data_set.ignore_index
        self._augment = Augment(
            phase.augment, (recipe.model.height, recipe.model.width), phase.crop, data_set.ignore_index
        )
        weights_K = class_weights(histogram, phase.class_balance)
        self.weights_K = None if weights_K is None else weights_K.to(device)

    @staticmethod
    def check(recipe: Recipe, name: str, phase: Phase) -> None:
        """Queries are of no use here."""
        if phase.guided:
            raise InputError(
                f"phase {name}: guided is of queries, and a model of task {recipe.model.task} has none; take it out"
            )
        if recipe.model.queries != type(recipe.model)().queries:
            raise InputError(f"model.queries is of task instance, and the model's is {recipe.model.task}; take it out")

    def before_step(self, model: Network, progress: float) -> None:
        """Nothing."""

    def augment(self, images_B3HW: Tensor, labels_BHW: Tensor) -> tuple[Tensor, Tensor]:
        """A random window, flip and colours; labels become int64."""
        images_B3HW, labels_BHW = self._augment(images_B3HW, labels_BHW)
        return images_B3HW, labels_BHW

    def labels(self, labels_BHW: Tensor) -> Tensor:
        """The targets themselves."""
        return labels_BHW

    def guided(self, labels_BHW: Tensor) -> None:
        """No query."""

    def counted(self, labels_BHW: Tensor) -> Tensor:
        """Pixels with a class, by the weight of it."""
        return counted_pixels(labels_BHW, self.recipe.model.label_stride, self.ignore_index, self.weights_K)

    def loss(self, prediction: Prediction, labels_BHW: Tensor) -> Tensor:
        """Cross-entropy with weights for rare classes, the soft Jaccard distance and Dice, and the cross-entropy of auxiliary
        heads, enlarged to the main one's size."""
        logits_BKHW, phase = prediction.raw, self.phase
        about = (labels_BHW, self.ignore_index, self.weights_K, phase.label_smoothing)
        if phase.ohem is None:
            loss = cross_entropy(logits_BKHW, *about)
        else:
            loss = hard_cross_entropy(logits_BKHW, *about, phase.ohem.threshold, phase.ohem.least)
        if phase.jaccard:
            loss = loss + phase.jaccard * jaccard_distance(logits_BKHW, labels_BHW, self.ignore_index)
        if phase.dice:
            loss = loss + phase.dice * dice_distance(logits_BKHW, labels_BHW, self.ignore_index)
        if phase.auxiliary is not None:
            for coarse_BKHW in prediction.auxiliary:
                logits_BKHW = F.interpolate(coarse_BKHW.float(), prediction.raw.shape[-2:], mode="bilinear")
                loss = loss + phase.auxiliary.weight * cross_entropy(logits_BKHW, *about)
        return loss

    def distance(self, prediction: Prediction, taught: Taught) -> Tensor:
        """Of the class probabilities, from the mean of all teachers', and of the final tokens, from one teacher's: all that a
        teacher of other classes can say. See `distance_to_teacher` for teachers of another stride."""
        phase, distance = self.phase, prediction.raw.new_zeros((), dtype=torch.float32)
        if phase.distill:
            distance = distance + phase.distill * distance_to_teacher(prediction.raw, *taught.raws)
        return distance + taught.distance_of_tokens(prediction, phase)

    def score(self, model: Network) -> dict[str, float]:
        """mIoU on the recipe's validation frames."""
        spec = self.recipe.validation
        if spec is None:
            return {}
        data_set, samples = open_validation(spec)
        return {"miou": score(model, data_set, samples, spec.frames, None).miou}

    @staticmethod
    def judge(
        model: Network,
        data_set: DataSet,
        samples: Samples,
        frames: int | None,
        select: Select | None,
        detail: bool = False,
    ) -> Judged:
        """mIoU at the model's input size; with details the boundary F there, the mIoU of small things where the data set names
        things, and the IoU of each class."""
        found = score(model, data_set, samples, frames, select, boundaries=detail)
        figures: dict[str, Any] = {"miou": found.miou}
        if detail:
            more = {"boundary_f": found.boundary_f, "small_things_miou": found.small_things_miou}
            figures |= {name: figure for name, figure in more.items() if figure is not None}
            by_class = zip(data_set.names, found.per_class, strict=True)
            figures["per_class_iou"] = {name: None if isnan(iou) else iou for name, iou in by_class}
        return Judged(figures, found.tokens)

    @staticmethod
    def scores(preprocess: Preprocess, data_set: DataSet) -> LabelsAtInput:
        """As `judge`, at the input's size."""
        return LabelsAtInput(preprocess, data_set)
