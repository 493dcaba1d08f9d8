"""DynamicViT: gates that see a token and the mean of all that remain (Rao et al., "DynamicViT: Efficient Vision
Transformers with Dynamic Token Sparsification", NeurIPS 2021).

Shapes: B batch, N tokens of the full grid, K tokens that remain, D width, G stages.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeprune.model.blocks import gelu
from edgeprune.model.policy import Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.pruning.masking import attended, mix, offered
from edgeprune.pruning.sampling import SampledOptions
from edgeprune.pruning.schedules import FallingSchedule, evenly_spaced
from edgeprune.pruning.selection import select_top
from edgeprune.pruning.stages import gather_stages


class DynamicViTOptions(SampledOptions):
    """Settings of the `dynamicvit` policy; the defaults are the paper's, but for `pruned`."""

    keep: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.7, 0.49, 0.343], min_length=1, description="target keep ratios of the stages, as shares of the grid"
    )
    weight: float = Field(2.0, ge=0, description="lambda of the ratio loss")
    pruned: Literal["removed", "preserved"] = Field(
        "preserved",
        description="what the head gets of a token that left: `preserved`: the features it left with; `removed`: nothing, "
        "as in the paper, its cell has one learned token for all",
    )


class Gate(nn.Module):
    """The paper's prediction module (section 3.2): LayerNorm -> Linear(D, D) -> GELU, half of it of the token itself,
    half of it the mean of the tokens that remain, -> D/2 -> D/4 -> 2. Output 0 is "keep"; `svit.Gate` says where the
    LogSoftmax is."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width // 2)
        self.fc3 = nn.Linear(width // 2, width // 4)
        self.fc4 = nn.Linear(width // 4, 2)

    def forward(self, x_ND: Tensor, there_N: Tensor | None = None) -> Tensor:
        """log p(keep) - log p(drop), (..., N). `there_N`: ones for the tokens that remain; None: all of them."""
        local_NC, seen_NC = gelu(self.fc1(self.norm(x_ND))).chunk(2, dim=-1)
        if there_N is None:
            mean_1C = seen_NC.mean(dim=-2, keepdim=True)
        else:
            there_N1 = there_N.float()[..., None]  # bf16 does not count past 256
            mean_1C = (seen_NC * there_N1).sum(dim=-2, keepdim=True) / there_N1.sum(dim=-2, keepdim=True).clamp_min(1)
        both_ND = torch.cat((local_NC, mean_1C.to(local_NC.dtype).expand_as(local_NC)), dim=-1)
        logits_N2 = self.fc4(gelu(self.fc3(gelu(self.fc2(both_ND)))))
        return logits_N2[..., 0] - logits_N2[..., 1]


class DynamicViT(TokenPolicy):
    """A gate before each stage; what it lets go takes no part in any later block.

    The paper classifies, and what becomes of a pruned token matters to nobody. A head for dense output needs something in
    every cell. `preserved` is the default, for training with features thrown away diverges on dense tasks (Liu et al.,
    WACV 2024). `removed` puts one learned token into all cells that are empty: nothing of the pruned token comes through,
    as in the paper, and the head can tell an empty cell from any token. (Zeros would pass the last LayerNorm as its bias,
    which is the same for no reason; the nearest token's features would be a reconstruction, another method's idea.)
    """

    def __init__(self, shape: Shape, options: DynamicViTOptions):
        stages = evenly_spaced(shape, len(options.keep))
        super().__init__(shape, FallingSchedule(shape.depth, shape.grid, stages, tuple(options.keep)))
        self.options = options
        self.gates = nn.ModuleList(Gate(shape.width) for _ in self.gated)
        self.empty_1D = nn.Parameter(0.02 * torch.randn(1, shape.width)) if options.pruned == "removed" else None

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """log p(keep) - log p(drop), (..., N), of tokens that are all there."""
        return self.gates[gate](x_ND)

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """Decisions multiply, D <- D * D' (section 3.2); tokens without one are no keys (section 3.3, attention
        masking).

        The paper's softmax multiplies each key's exponential by its decision. Its gradient at a kept key is that of a bias
        of value 0, which is what passes here; a dropped key's would need its weight in a sum that it is not part of, and
        gates learn from those through the mix of old and new features instead, as in `svit`.
        """
        sampled = select is None and self.training
        select = select or select_top(self.schedule.on(view.grid).target_candidates)
        there_BN = torch.ones_like(x_BND[..., 0], dtype=torch.float32)
        keeps: list[Tensor] = []
        for index, block in enumerate(blocks):
            for gate in self.schedule.decisions_at(index):
                scores_BN = self.gates[gate](x_BND, there_BN)
                if sampled:  # also of tokens that left: a gate that would keep them says so to the gates before it
                    there_BN = there_BN * self.options.sample(scores_BN, view.progress)
                else:
                    there_BN = there_BN * select(gate, offered(scores_BN, there_BN >= 0.5))
                keeps.append(there_BN)
            if not keeps:
                x_BND = block(x_BND)
                continue
            bias_BN = there_BN - there_BN.detach() if there_BN.requires_grad else None
            x_BND = mix(there_BN, block(x_BND, attended(there_BN.detach() > 0.5), bias_BN), x_BND)
        if self.empty_1D is not None:
            x_BND = mix(there_BN, x_BND, self.empty_1D)
        return Masked(x_BND, keeps, self.loss(keeps))

    def loss(self, keeps: Sequence[Tensor]) -> Tensor:
        """lambda / (B G) * sum over images and stages of (keep ratio - target)^2 (section 3.4): each image holds the rate."""
        gaps = [
            (keep_BN.float().mean(dim=-1) - target).square().mean()
            for keep_BN, target in zip(keeps, self.schedule.target_shares, strict=True)
        ]
        return self.options.weight * torch.stack(gaps).mean()

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """TopK -> gather per stage; the full grid is put together once, at the end."""
        return gather_stages(self, blocks, x_ND, counts, scores_S, self.empty_1D)
