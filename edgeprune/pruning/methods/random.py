"""Random selection at the same counts: the control beside every claim about a policy.

Shapes: B batch, N tokens of the full grid, K tokens kept, D width, G gates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.pruning.methods.svit import SViT, SViTOptions


class Random(SViT):
    """SViT's schedule and preservation with blind scores: drawn anew in training, one constant table in a graph."""

    scores_GN: Tensor

    def __init__(self, shape: Shape, options: SViTOptions):
        super().__init__(shape, options)
        if not self.comes_back or options.gate != "svit":
            raise InputError("policy: blind selection has no gate, and its tokens come back; take those options out")
        self.gates = nn.ModuleList()
        table_GN = torch.rand(len(self.gated), self.tokens, generator=torch.Generator().manual_seed(0))
        self.register_buffer("scores_GN", table_GN)

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """The gate's constant table (..., N), whatever the tokens hold; on a crop, which has no table, drawn anew."""
        if x_ND.shape[-2] != self.tokens:
            return torch.rand(x_ND.shape[:-1], device=x_ND.device)
        return self.scores_GN[gate].expand(x_ND.shape[:-1])

    def _sample(self, gate: int, scores_BN: Tensor, progress: float = 1.0) -> Tensor:
        """Each token kept with the target's probability."""
        return (torch.rand_like(scores_BN) < self.target_keep[gate]).to(scores_BN.dtype)

    def loss(self, keeps: Sequence[Tensor]) -> Tensor:
        """Nothing to learn."""
        return keeps[0].new_zeros((), dtype=torch.float32)
