"""What a policy decides on one frame, read from the training form.

Shapes: B frames (one here), H W pixels, N tokens of the grid, G decisions.
"""

from collections.abc import Sequence

import numpy as np
import torch

from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import select_over
from edgeprune.pruning.token_pictures import Selection
from edgeprune.runtime.engines.engine import UInt8


def select_tokens(model: Segmenter, frame_HW3: UInt8, thresholds: Sequence[float] | None) -> tuple[Selection, UInt8]:
    """The policy's decisions on a frame of the model's input size, and its label map (H/2, W/2).

    Args:
        thresholds: what gates are cut at, as a run does; None: the best tokens at the target ratios stay.
    """
    policy = model.policy
    select = None if thresholds is None or not policy.gated else select_over(thresholds)
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
