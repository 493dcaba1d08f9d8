"""Mask AP of the PyTorch model while it trains, by the metric that scores compiled graphs.

Shapes: B batch, H W pixels.
"""

from itertools import islice

import numpy as np
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.data import Samples, spread
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.heads.instance import Answers, QueryHead
from edgeprune.model.network import Network
from edgeprune.runtime.engines.bound import Array
from edgeprune.train.validation import best_tokens, evaluating


def score_things(model: Network, data_set: DataSet, samples: Samples, frames: int | None, batch: int = 8) -> float:
    """Mask AP, 0 to 1, of `frames` samples spread evenly over the split (None: all of them), at the frames' own pixels; gates
    keep the best tokens at the target ratios.

    Args:
        samples: opened with their things.

    Raises:
        InputError: no frame has a thing.
    """
    from edgeprune.evaluate.tasks.instance import InstanceScores  # COCO's metric is an extra: `check_things`

    preprocess, device, head = Preprocess.of(model.spec), next(model.parameters()).device, model.head
    scores, select = InstanceScores(preprocess, data_set), best_tokens(model)
    assert isinstance(head, QueryHead)
    chosen = (samples[index] for index in spread(len(samples), frames))
    with evaluating(model):
        while some := list(islice(chosen, batch)):
            images_BHW3 = torch.from_numpy(np.stack([preprocess.fit(sample.image_HW3) for sample in some]))
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                raw: Answers = model(images_BHW3.permute(0, 3, 1, 2).float().to(device), select).raw
            for index, sample in enumerate(some):
                outputs = zip(head.outputs, head.decide(raw.of_frame(index)), strict=True)
                scores.add({name: as_graphs_give(output) for name, output in outputs}, sample)
    found = scores.result()["mask_ap"]
    if found is None:
        raise InputError(
            f"no frame of data set {data_set.name!r} that is scored has a thing; see `edgeprune data lint`"
        )
    return float(found)


def as_graphs_give(output: Tensor) -> Array:
    """An output of a head: whole numbers as bytes, others in FP32."""
    found: Array = (output.float() if output.is_floating_point() else output.to(torch.uint8)).cpu().numpy()
    return found
