"""What a policy does with the tokens of a frame, read from the training form.

Shapes: B frames, H W pixels, N tokens of the grid, G decisions.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeprune.data import Samples, spread
from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.token_pictures import Selection
from edgeprune.model.policy import TokenPolicy
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import select_over, select_top
from edgeprune.quantize.calib import Calib
from edgeprune.quantize.linear import quantized_linears
from edgeprune.runtime.engines.engine import UInt8

WATCHED_FRAMES = 16


def select_tokens(model: Segmenter, frame_HW3: UInt8, calib: Calib | None) -> tuple[Selection, UInt8]:
    """The policy's decisions on a frame of the model's input size, and its label map (H/2, W/2).

    Args:
        calib: gates are cut at its thresholds, as a run does; without, the best tokens at the target ratios stay.
    """
    policy = model.policy
    select = None
    if calib is not None and policy.gated:
        precision = "int8" if any(True for _ in quantized_linears(model)) else "fp32"
        select = select_over(calib.thresholds_for(precision, len(policy.gated)))
    with torch.no_grad():
        image_13HW = torch.from_numpy(np.array(frame_HW3)).permute(2, 0, 1)[None].float()
        prediction = model.eval()(image_13HW, select)
    masked = prediction.masked
    tokens = policy.tokens
    keep_GN = np.zeros((0, tokens), bool)
    if masked.keep_GBN:
        keep_GN = torch.stack([keep_BN[0] > 0.5 for keep_BN in masked.keep_GBN]).numpy()
    groups_GN = None
    if masked.group_GBN is not None:
        groups_GN = torch.stack([group_BN[0] for group_BN in masked.group_GBN]).numpy()
    blocks_N = np.zeros(tokens, np.int64)
    for block in range(model.spec.depth):
        last = policy.schedule.decided(block) - 1
        here_N = np.ones(tokens, bool) if last < 0 else keep_GN[last]
        if last >= 0 and groups_GN is not None:
            here_N = np.isin(groups_GN[last], groups_GN[last][here_N])
        blocks_N += here_N
    selection = Selection(model.grid, [gate + 1 for gate in policy.gated], keep_GN, blocks_N, groups_GN)
    return selection, prediction.raw.argmax(dim=1)[0].to(torch.uint8).numpy()


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
