"""Random selection at the same counts: the control beside every claim about a policy.

Shapes: B batch, N tokens of the full grid, K tokens kept, D width, G gates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.inside import Inside
from edgeprune.model.policy import Select, Shape, View
from edgeprune.pruning.methods.svit import SViT, SViTOptions


class Random(SViT):
    """SViT's schedule and preservation with blind scores: drawn anew in training, one constant table in a graph."""

    scores_GN: Tensor

    def __init__(self, shape: Shape, options: SViTOptions):
        super().__init__(shape, options)
        if not options.comes_back or options.gate != "svit" or options.stagger:
            raise InputError("policy: blind selection has no gate, and its tokens come back; take those options out")
        del self.gates[:]
        table_GN = torch.rand(len(self.gated), self.tokens, generator=torch.Generator().manual_seed(0))
        self.register_buffer("scores_GN", table_GN)

    def restrict(self, inside: Inside) -> None:
        """Whichever table it is, its last dimension is the tokens."""
        super().restrict(inside)
        for name, table in list(self.named_buffers(recurse=False)):
            setattr(self, name, table.cpu().index_select(-1, inside.numbers()))

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """The gate's constant table (..., N), whatever the tokens hold; on a crop, which has no table, drawn anew."""
        if x_ND.shape[-2] != self.tokens:
            return torch.rand(x_ND.shape[:-1], device=x_ND.device)
        return self.scores_GN[gate].expand(x_ND.shape[:-1])

    def masked_scores(self, gate: int, x_BND: Tensor, there_BN: Tensor | None, view: View) -> Tensor:
        """The table of `scores`."""
        return self.scores(gate, x_BND)

    def select_sampled(self, view: View) -> Select:
        """Each token is kept with the target's probability."""
        shares = self.schedule.target_shares
        return lambda gate, scores_BN: (torch.rand_like(scores_BN) < shares[gate]).to(scores_BN.dtype)

    def loss(self, keeps: Sequence[Tensor]) -> Tensor:
        """There is nothing to learn."""
        return keeps[0].new_zeros((), dtype=torch.float32)
