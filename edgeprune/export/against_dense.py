"""What the buckets of a calibration would do with frames, held against every token of them: it needs no labels.

Shapes: F frames, H W pixels of the input, G decisions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeprune.bundle.target import BucketFamily
from edgeprune.data import spread
from edgeprune.export.family import buckets_of_frames, place_buckets
from edgeprune.export.graphs import inside_of, named_outputs
from edgeprune.model.policy import Select
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import select_all, select_top
from edgeprune.quantize.calib import Calib
from edgeprune.quantize.calibrate import measure_occupancy, model_thresholds
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.tasks import Agreement, find_task

FRAMES = 16


@dataclass(frozen=True)
class AgainstDense:
    """A calibration on some frames.

    Attributes:
        tokens: of the buckets that the frames get, as a share of the dense model's; the mean over the frames.
        equal: share of what the model answers that is as with every token: of pixels, or things.
    """

    tokens: float
    equal: float


def hold_against_dense(
    model: Segmenter, images_F3HW: Tensor, calibs: Sequence[Calib], family: BucketFamily
) -> list[AgainstDense]:
    """Each calibration on a few of the frames (uint8, as `calibration_frames` gives them), in the precision and region that
    the model is in. A frame gets the smallest bucket that holds what it asks for by the calibration's thresholds."""
    images_F3HW = images_F3HW[spread(len(images_F3HW), FRAMES)]
    expected = [_answer(model, image_3HW, select_all) for image_3HW in images_F3HW]
    return [_hold(model, images_F3HW, expected, calib, family) for calib in calibs]


def _hold(
    model: Segmenter, images_F3HW: Tensor, expected: Sequence[Outputs], calib: Calib, family: BucketFamily
) -> AgainstDense:
    schedule, agreement = model.policy.schedule, find_task(model.spec.task).agreement
    buckets = place_buckets(schedule, family, calib.placing)
    shares_FG = measure_occupancy(model, images_F3HW, model_thresholds(model, calib))
    chosen = [buckets[number] for number in buckets_of_frames(schedule, buckets, shares_FG)]
    agreed, inside = Agreement(0, 0), inside_of(model)
    for image_3HW, bucket, dense in zip(images_F3HW, chosen, expected, strict=True):
        got = _answer(model, image_3HW, select_top(schedule.candidates(bucket.counts)))
        agreed += agreement(dense, got, inside)
    tokens = np.mean([model.share_of_dense(bucket) for bucket in chosen])
    return AgainstDense(tokens=float(tokens), equal=agreed.share)


def _answer(model: Segmenter, image_3HW: Tensor, select: Select) -> Outputs:
    device = model.pos_embed.device
    with torch.no_grad():
        raw = model(image_3HW[None].to(device).float(), select).raw
    return named_outputs(model, raw)
