"""ATS: tokens are sampled by how much they give, as often as the count allows; what is sampled twice is there once
(Fayyaz et al., "Adaptive Token Sampling for Efficient Vision Transformers", ECCV 2022).

The cumulative sum runs over the tokens in raster order, as the paper's equation has them; its released code sorts them by
score first. So the same K samples fall on other tokens: sorted, they thin out the least of the whole frame; in raster order
they thin out neighbours, wherever these score little.

Shapes: B batch, H heads, N tokens of the full grid, K samples, D width, G decisions.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.base.reading import Strict
from edgeprune.model.blocks import Layer
from edgeprune.model.policy import Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.pruning.masking import attended, offered
from edgeprune.pruning.schedules import FallingSchedule, blocks_from, spread


class ATSOptions(Strict):
    """Settings of the `ats` policy."""

    first: int = Field(3, ge=1, description="blocks before the first that samples; every later one does (the paper's)")
    keep: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.7, 0.49, 0.343],
        min_length=1,
        description="samples as shares of the grid, spread evenly over the blocks that sample: the most that can remain",
    )


class ATS(TokenPolicy):
    """A decision in each block from `first` on, between its attention weights and its output: the queries of the tokens
    that are sampled go on, over the keys of all that were there before (section 3.2). Tokens leave for good, and keep the
    features they had: the paper classifies, a head for dense output needs something in every cell."""

    reads_values = True
    chooses_alone = True
    not_exportable = "ATS drops what it samples twice, so the count of tokens depends on the frame"

    def __init__(self, shape: Shape, options: ATSOptions):
        gated = blocks_from(shape, options.first)
        super().__init__(shape, FallingSchedule(shape.depth, shape.grid, gated, spread(options.keep, len(gated))))

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        raise InputError(f"policy ats has no graph: {self.not_exportable}")

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        raise InputError(f"policy ats has no graph: {self.not_exportable}")

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """The samples are the paper's fixed ones in training too; there is nothing to learn but the blocks."""
        samples = self.schedule.on(view.grid).target_counts
        there_BN = torch.ones_like(x_BND[..., 0], dtype=torch.bool)
        keeps: list[Tensor] = []
        for index, block in enumerate(blocks):
            if index not in self.gated:
                x_BND = block(x_BND)
                continue
            keys_BN = attended(there_BN)
            scores_BN = significance(block, x_BND, keys_BN).masked_fill(~there_BN, 0.0)
            if select is None:
                chosen_BN = sample(scores_BN, samples[len(keeps)])
            else:
                chosen_BN = select(len(keeps), offered(scores_BN, there_BN))
            there_BN = there_BN & (chosen_BN > 0.5)
            keeps.append(there_BN.float())
            x_BND = torch.where(there_BN[..., None], block(x_BND, keys_BN), x_BND)
        return Masked(x_BND, keeps, x_BND.new_zeros((), dtype=torch.float32))


def significance(block: nn.Module, x_BND: Tensor, there_BN: Tensor) -> Tensor:
    """S_j = A_j |V_j| / sum_i A_i |V_i| (section 3.1, token scoring), (B, N): the attention that a token receives in this
    block times the length of its value, summed over heads. A is the mean over the queries that remain, for a model may
    have no class token."""
    assert isinstance(block, Layer)
    queries_BN1 = there_BN[..., None].float()
    weights_BHNN = block.attention(x_BND, there_BN) * queries_BN1[:, None]
    attention_BHN = weights_BHNN.sum(dim=-2) / queries_BN1.sum(dim=-2)[:, None]
    gives_BN = (attention_BHN * block.values(x_BND).float().norm(dim=-1)).sum(dim=1)
    return gives_BN / gives_BN.sum(dim=-1, keepdim=True)


def sample(scores_BN: Tensor, samples: int) -> Tensor:
    """Inverse transform sampling at 1/2K, 3/2K, ..., (2K - 1)/2K (section 3.2): ones (B, N) for tokens sampled at least once.

    A token is taken where the cumulative sum first reaches a sample, so one of score 0 never is.
    """
    cdf_BN = scores_BN.double().cumsum(dim=-1)
    cdf_BN = cdf_BN / cdf_BN[:, -1:].clamp_min(1e-12)  # the last sample must lie under its end
    steps_K = (torch.arange(samples, device=cdf_BN.device, dtype=cdf_BN.dtype) + 0.5) / samples
    taken_BK = torch.searchsorted(cdf_BN, steps_K.expand(cdf_BN.shape[0], -1).contiguous())
    return torch.zeros_like(scores_BN).scatter(-1, taken_BK.clamp_max(scores_BN.shape[-1] - 1), 1.0)
