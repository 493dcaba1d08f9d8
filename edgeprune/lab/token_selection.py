"""What a policy does with the tokens of many frames, read from the training form.

Shapes: B frames, H W pixels, N tokens of the grid, G decisions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeprune.data import Samples, spread
from edgeprune.data.preprocess import Preprocess
from edgeprune.model.policy import TokenPolicy
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import select_top

WATCHED_FRAMES = 16


def watched_frames(model: Segmenter, samples: Samples) -> Tensor:
    """Frames (B, H, W, 3) of the model's input size, evenly spread over the samples."""
    preprocess = Preprocess.of(model.spec)
    images = [preprocess.fit(samples[index].image_HW3) for index in spread(len(samples), WATCHED_FRAMES)]
    return torch.from_numpy(np.stack(images))


def kept_masks(model: Segmenter, images_BHW3: Tensor) -> Tensor | None:
    """Keep masks (G, B, N) at the target counts; None for a policy without decisions."""
    if not model.policy.gated:
        return None
    select = select_top(model.policy.schedule.target_candidates)
    masks = []
    with torch.no_grad():
        for part_BHW3 in images_BHW3.split(4):
            masked = model.eval()(part_BHW3.permute(0, 3, 1, 2).float(), select).masked
            masks.append(torch.stack(masked.keep_GBN))
    return torch.cat(masks, dim=1)


@dataclass(frozen=True)
class Decision:
    """How many tokens come back at one decision.

    Attributes:
        decision: its number, from 1.
        block: before which it is made, from 1.
        kept: share of the grid.
        returned: share of the kept that the decision before had let go.
    """

    decision: int
    block: int
    kept: float
    returned: float


def reactivation(policy: TokenPolicy, keep_GBN: Tensor) -> list[Decision]:
    """How many tokens come back, decision by decision."""
    before_BN = torch.ones_like(keep_GBN[0])
    rows = []
    for decision, (block, keep_BN) in enumerate(zip(policy.gated, keep_GBN, strict=True), start=1):
        returned = float((keep_BN * (1 - before_BN)).sum() / keep_BN.sum().clamp_min(1))
        rows.append(Decision(decision, block + 1, float(keep_BN.mean()), returned))
        before_BN = keep_BN
    return rows
