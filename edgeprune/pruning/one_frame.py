"""What a policy decides on one frame, read from the training form.

Shapes: B frames (one here), H W pixels, N tokens of the grid, G decisions.
"""

from collections.abc import Sequence

import numpy as np
import torch

from edgeprune.model.heads.head import Head, Raw
from edgeprune.model.inside import Inside
from edgeprune.model.network import Network, Prediction
from edgeprune.model.policy import Masked
from edgeprune.pruning.selection import select_over
from edgeprune.pruning.token_pictures import Selection
from edgeprune.runtime.engines.engine import Outputs, UInt8
from edgeprune.runtime.tasks.semantic import NO_CLASS


def predict(model: Network, frame_HW3: UInt8, thresholds: Sequence[float] | None) -> Prediction:
    """What the training form says of a frame of the model's input size, a batch of one.

    Args:
        thresholds: what gates are cut at, as a run does; None: the best tokens at the target ratios stay.
    """
    select = None if thresholds is None or not model.policy.gated else select_over(thresholds)
    with torch.no_grad():
        image_13HW = torch.from_numpy(np.array(frame_HW3)).permute(2, 0, 1)[None].float()
        prediction: Prediction = model.eval()(image_13HW, select)
    return prediction


def selection_of(model: Network, masked: Masked) -> Selection:
    """The policy's decisions on the only frame of a batch, on the grid of the whole frame."""
    policy = model.policy
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
    before = [gate + 1 for gate in policy.gated]
    selection = Selection(model.grid, before, keep_GN, blocks_N, groups_GN)
    return selection if model.inside is None else in_frame(selection, model.inside)


def label_map_of(model: Network, raw: Raw) -> UInt8:
    """The class of each pixel of the only frame of a batch, at the label stride; 255 outside a region and where there is no
    thing."""
    label_HW = model.label_map(raw).to(torch.uint8).numpy()
    if model.inside is not None:
        label_HW = np.where(model.inside.region.pixels(*label_HW.shape), label_HW, NO_CLASS)
    return label_HW


def outputs_of(head: Head, raw: Raw) -> Outputs:
    """What a graph gives of the only frame of a batch, by name: whole numbers as bytes, others in FP32."""
    found = zip(head.outputs, head.decide(raw), strict=True)
    return {
        name: (each.float() if each.is_floating_point() else each.to(torch.uint8)).cpu().numpy() for name, each in found
    }


def in_frame(selection: Selection, inside: Inside) -> Selection:
    """The decisions on the tokens of a region, on the grid of the whole frame: no block processed a token outside."""
    number_K, all_N = inside.numbers().numpy(), inside.region.inside_GG.flatten()
    keep_GN = np.zeros((len(selection.keep_GN), len(all_N)), bool)
    keep_GN[:, number_K] = selection.keep_GN
    blocks_N = np.zeros(len(all_N), np.int64)
    blocks_N[number_K] = selection.blocks_N
    groups_GN = None
    if selection.groups_GN is not None:
        groups_GN = np.full(keep_GN.shape, -1)
        groups_GN[:, number_K] = selection.groups_GN
    return Selection(selection.grid, selection.before, keep_GN, blocks_N, groups_GN, all_N)
