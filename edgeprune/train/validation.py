"""mIoU of the PyTorch model, by torchmetrics, while it trains.

Shapes: B batch, K classes, H W pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.data import Sample, Samples, open_split, spread
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.nearest import resize_nearest
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.confusion import ConfusionMatrix
from edgeprune.evaluate.metrics import Scores
from edgeprune.model.network import Network
from edgeprune.model.policy import Masked, Select
from edgeprune.pruning.selection import select_top
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.train.recipe import Validation

if TYPE_CHECKING:
    from torchmetrics.classification import MulticlassJaccardIndex


@dataclass
class Score:
    """mIoU over the classes that occur, the IoU of each class (nan for one that no label has), tokens processed over all blocks
    as a share of the dense model's; the boundary F-measure and mIoU of small things (`edgeprune.evaluate.metrics`) where they
    were asked for."""

    miou: float
    per_class: list[float]
    tokens: float
    boundary_f: float | None = None
    small_things_miou: float | None = None


def score(
    model: Network,
    data_set: DataSet,
    samples: Samples,
    frames: int | None,
    select: Select | None,
    batch: int = 8,
    boundaries: bool = False,
) -> Score:
    """Scores `frames` samples spread evenly over the split (None: all of them), predictions doubled to the model's size.

    Prediction and label are compared at the model's input size, where a frame's bars are ignored; `evaluate.accuracy` compares
    the compiled graphs at the frame's own.

    Args:
        select: how gates decide; None keeps the best tokens at the target ratios.
        boundaries: measure the boundary F and small things too, at the model's input size; a tenth of a second a frame.

    Raises:
        InputError: no label has a class; or a model that gives no class for each pixel.
    """
    device = next(model.parameters()).device
    metric = _jaccard(data_set).to(device)
    select = select or best_tokens(model)
    chosen = spread(len(samples), frames)
    preprocess = Preprocess.of(model.spec)
    processed: list[float] = []
    exact = Scores(data_set.names, data_set.ignore_index, None, data_set.things)
    seen = torch.zeros(len(data_set.names), dtype=torch.bool)
    fitted = (preprocess.fit_sample(samples[index], data_set.ignore_index) for index in chosen)
    with evaluating(model):
        for images_B3HW, labels_BHW in batches(fitted, batch):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                prediction = model(images_B3HW.to(device), select)
            if not isinstance(prediction.raw, Tensor):
                raise InputError(
                    f"mIoU is of classes of pixels, and the model's task is {model.spec.task}; score it by its own figure: "
                    "`edgeprune ablate selection`, or build it and type `edgeprune eval`"
                )
            classes_BHW = upscale_labels(prediction.raw.argmax(dim=1), labels_BHW.shape[-2:])
            metric.update(classes_BHW, labels_BHW.to(device))
            if boundaries:
                for pred_HW, label_HW in zip(classes_BHW.cpu().numpy(), labels_BHW.numpy(), strict=True):
                    exact.update(pred_HW, label_HW)
            for index in labels_BHW.unique().tolist():
                if index < len(seen):
                    seen[index] = True
            processed += token_shares(model, prediction.masked)
    if not seen.any():
        raise InputError(
            f"no pixel of {len(chosen)} labels of data set {data_set.name!r} is of a class; see `edgeprune data lint`"
        )
    per_class, result = metric.compute().cpu(), exact.result()
    return Score(
        miou=float(per_class[seen].mean()),
        per_class=[float(value) if present else float("nan") for value, present in zip(per_class, seen, strict=True)],
        tokens=mean_share(processed),
        boundary_f=result["boundary_f"],
        small_things_miou=result["small_things_miou"],
    )


def token_shares(model: Network, masked: Masked) -> list[float]:
    """Of each frame of a batch the tokens processed over all blocks, as a share of the dense model's; none: no decisions."""
    shares_GB = [keep_BN.float().mean(dim=-1).tolist() for keep_BN in masked.keep_GBN]
    return [model.policy.schedule.relative_token_layers(shares_G) for shares_G in zip(*shares_GB, strict=True)]


def mean_share(shares: list[float]) -> float:
    """Over all frames; every token where nothing was decided."""
    return sum(shares) / len(shares) if shares else 1.0


class LabelsAtInput:
    """mIoU of graphs' label maps at the input's size, where `score` compares those of the network."""

    def __init__(self, preprocess: Preprocess, data_set: DataSet) -> None:
        self._preprocess, self._ignore_index = preprocess, data_set.ignore_index
        self._confusion = ConfusionMatrix(len(data_set.names), data_set.ignore_index)

    def add(self, outputs: Outputs, sample: Sample) -> None:
        """Adds a frame; `sample`: at its own size."""
        label_HW = self._preprocess.fit_label(sample.label_HW, self._ignore_index)
        self._confusion.update(resize_nearest(outputs["labels"], *label_HW.shape), label_HW)

    def result(self) -> dict[str, Any]:
        """`miou`; nan where no pixel is of a class."""
        return {"miou": self._confusion.miou}


@contextmanager
def evaluating(model: Network) -> Iterator[None]:
    """The model in evaluation mode, without gradients; what of it was in training mode is so again after."""
    training = [module for module in model.modules() if module.training]  # what is frozen is not
    model.eval()
    with torch.no_grad():
        yield
    for module in training:
        module.training = True


def best_tokens(model: Network) -> Select | None:
    """Gates keep the best tokens at the target ratios; None where there are none, or where the policy's own choice is what is
    to be scored."""
    policy = model.policy
    return select_top(policy.schedule.target_candidates) if policy.gated and not policy.chooses_alone else None


def _jaccard(data_set: DataSet) -> "MulticlassJaccardIndex":
    """IoU of each class; torchmetrics is imported where something is scored, for it takes two seconds."""
    from torchmetrics.classification import MulticlassJaccardIndex

    return MulticlassJaccardIndex(
        num_classes=len(data_set.names), ignore_index=data_set.ignore_index, average="none", sync_on_compute=False
    )


def batches(samples: Iterator[Sample], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, 3, H, W) in 0 to 255 as floats, and labels (B, H, W), of so many samples of one size at a time."""
    while some := list(islice(samples, size)):
        images_BHW3 = torch.from_numpy(np.stack([sample.image_HW3 for sample in some]))
        labels_BHW = torch.from_numpy(np.stack([sample.label_HW for sample in some]))
        yield images_BHW3.permute(0, 3, 1, 2).float(), labels_BHW.long()


def upscale_labels(classes_BHW: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Nearest-neighbour resize of class ids."""
    return torch.nn.functional.interpolate(classes_BHW[:, None].float(), size=tuple(size), mode="nearest")[:, 0].long()


def open_validation(spec: Validation, things: bool = False) -> tuple[DataSet, Samples]:
    """The frames that training is watched on, with their things where these are asked for."""
    data_set = load_data_set(spec.data)
    samples = open_split(data_set, spec.split, spec.include, spec.exclude, things=things)
    return data_set, samples if spec.held_out is None else spec.held_out.take(samples)
