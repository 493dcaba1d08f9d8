"""The training form of policies that merge, skip and exit: what passes from block to block.

Shapes: B batch, N tokens of the full grid, D width.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgeprune.model.policy import Select
from edgeprune.pruning.exits import Canvas
from edgeprune.pruning.masking import attended, mix
from edgeprune.pruning.superpatches import Sharing


@dataclass
class Walk:
    """What the training form gathers on its way through the blocks.

    Attributes:
        sharing: of the superpatches, whose patches share a token.
        alive_BN: True for the tokens that are there, one of each merged group.
        select: what decides.
        sampled: those images of the batch that gates decide for; others keep everything, or the best few.
        ratios: of each gate its mask, of which a mean of 1 is all that were there.
        canvas: of the exits.
    """

    sharing: Sharing
    alive_BN: Tensor
    select: Select
    sampled: slice
    loss: Tensor
    keeps: list[Tensor] = field(default_factory=list)
    groups: list[Tensor] = field(default_factory=list)
    ratios: list[Tensor] = field(default_factory=list)
    canvas: Canvas | None = None


def masked_block(block: nn.Module, x_BND: Tensor, walk: Walk, kept_BN: Tensor | None) -> Tensor:
    """A block on the tokens that are there, and that a gate keeps; the others hold their features.

    Args:
        kept_BN: the gate's mask over the whole grid, equal within a group; None: no gate.
    """
    if kept_BN is None:
        y_BND = block(x_BND, attended(walk.alive_BN))
        return torch.where(walk.sharing.shared(walk.alive_BN)[..., None], y_BND, x_BND)
    y_BND = block(x_BND, attended((kept_BN.detach() > 0.5) & walk.alive_BN))
    return mix(kept_BN, y_BND, x_BND)
