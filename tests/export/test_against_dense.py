"""Calibrations held against every token of frames without labels."""

import numpy as np
import pytest
import torch

from edgeprune.bundle.target import BucketFamily
from edgeprune.export.against_dense import hold_against_dense
from edgeprune.export.family import place_buckets
from edgeprune.pruning.selection import select_all, select_top
from edgeprune.quantize.calib import Calib
from edgeprune.quantize.calibrate import measure
from tests import models

FAMILY = BucketFamily(count=3, multiple=4)


def test_a_frame_gets_the_bucket_that_it_asks_for() -> None:
    model, images_F3HW = models.model(), torch.from_numpy(models.frames(8)).permute(0, 3, 1, 2)
    own = measure(model, images_F3HW, Calib(model="tiny", data="here", frames=["a"] * 8))
    every = own.model_copy(update={"thresholds": {"fp32": [-1e9] * 3}})  # asks for all tokens: the full bucket
    found, whole = hold_against_dense(model, images_F3HW, [own, every], FAMILY)
    assert (whole.tokens, whole.equal) == (1.0, 1.0)

    schedule, buckets = model.policy.schedule, place_buckets(model.policy.schedule, FAMILY, own.placing)
    layers, equal = [], []
    for image_3HW, shares_G in zip(images_F3HW, own.placing or [], strict=True):
        need = round(shares_G[0] * schedule.tokens)
        [bucket, *_] = [each for each in buckets if each.counts[0] >= need]
        layers.append(schedule.token_layers(bucket.counts))
        with torch.no_grad():
            labels, dense = (
                model(image_3HW[None].float(), select).raw.argmax(1)
                for select in (select_top(bucket.counts), select_all)
            )
        equal.append(float((labels == dense).float().mean()))
    assert found.tokens == pytest.approx(np.mean(layers) / (4 * models.N)) and found.tokens < 1
    assert found.equal == pytest.approx(np.mean(equal)) and found.equal < 1
