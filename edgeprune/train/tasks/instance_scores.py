"""Mask AP of the PyTorch model, while it trains and after, by the metric that scores compiled graphs.

Shapes: B batch, H W pixels.
"""

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgeprune.base.errors import InputError
from edgeprune.data import Samples, spread
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.heads.answers import Answers
from edgeprune.model.heads.instance import QueryHead
from edgeprune.model.network import Network
from edgeprune.model.policy import Select
from edgeprune.pruning.one_frame import outputs_of
from edgeprune.train.tasks.task import Judged
from edgeprune.train.validation import best_tokens, evaluating, mean_share, token_shares

if TYPE_CHECKING:
    from edgeprune.evaluate.tasks.instance import InstanceScores

BATCH = 8


def score_things(model: Network, data_set: DataSet, samples: Samples, frames: int | None) -> float:
    """Mask AP, 0 to 1, with the best tokens at the target ratios; see `judge_things`."""
    return float(judge_things(model, data_set, samples, frames, None).figures["mask_ap"])


def judge_things(
    model: Network,
    data_set: DataSet,
    samples: Samples,
    frames: int | None,
    select: Select | None,
    detail: bool = False,
) -> Judged:
    """Mask AP, box AP and what belongs to them (`InstanceScores`) of `frames` samples spread evenly over the split (None: all
    of them), at the frames' own pixels.

    Args:
        samples: opened with their things.
        select: how gates decide; None keeps the best tokens at the target ratios.
        detail: also of each class.

    Raises:
        InputError: no frame has a thing.
    """
    preprocess, device, head = Preprocess.of(model.spec), next(model.parameters()).device, model.head
    scores, select = new_scores(preprocess, data_set), select or best_tokens(model)
    assert isinstance(head, QueryHead)
    chosen = (samples[index] for index in spread(len(samples), frames))
    processed: list[float] = []
    with evaluating(model):
        while some := list(islice(chosen, BATCH)):
            images_BHW3 = torch.from_numpy(np.stack([preprocess.fit(sample.image_HW3) for sample in some]))
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                prediction = model(images_BHW3.permute(0, 3, 1, 2).float().to(device), select)
            raw: Answers = prediction.raw
            for index, sample in enumerate(some):
                scores.add(outputs_of(head, raw.of_frame(index)), sample)
            processed += token_shares(model, prediction.masked)
    found = scores.result()
    if found["mask_ap"] is None:
        raise InputError(
            f"no frame of data set {data_set.name!r} that is scored has a thing; see `edgeprune data lint`"
        )
    figures = {name: value for name, value in found.items() if detail or not isinstance(value, Mapping)}
    return Judged(figures, mean_share(processed))


def new_scores(preprocess: Preprocess, data_set: DataSet) -> "InstanceScores":
    """Of the answers of one network, or of one row of graphs."""
    from edgeprune.evaluate.tasks.instance import InstanceScores  # COCO's metric is an extra: `check_things`

    return InstanceScores(preprocess, data_set)
