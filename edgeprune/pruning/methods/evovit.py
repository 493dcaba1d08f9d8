"""Evo-ViT: each block takes the tokens that are attended to now, and one that stands for the others (Xu et al., "Evo-ViT:
Slow-Fast Token Evolution for Dynamic Vision Transformer", AAAI 2022).

Shapes: B batch, N tokens of the full grid, K tokens kept, M the same and the representative one, D width, G decisions.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeprune.base.reading import Strict
from edgeprune.model.policy import Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.model.schedule import Schedule
from edgeprune.pruning.received import received
from edgeprune.pruning.schedules import blocks_from, spread
from edgeprune.pruning.selection import select_top


class EvoViTOptions(Strict):
    """Settings of the `evovit` policy; the defaults are the paper's for a network of 12 blocks."""

    first: int = Field(4, ge=1, description="blocks before the first decision")
    keep: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.5], min_length=1, description="keep ratios, spread evenly over the blocks that decide"
    )
    momentum: float = Field(0.5, ge=0, lt=1, description="alpha: weight of the past in the average of attention")


class EvoViT(TokenPolicy):
    """A decision before each block from `first` on, by a moving average of the attention that tokens received (a model
    may have no class token: the mean over heads and over the queries that remain, in place of its attention).

    A_g <- alpha A_g + (1 - alpha) A, from the first block on (the paper's global class attention). A block that computes a
    part of the tokens knows the attention of these alone; it is scaled to what they held before, so that A_g always sums
    to one over the grid and both kinds stay comparable (the paper is silent). Every block decides anew: tokens come back.
    """

    def __init__(self, shape: Shape, options: EvoViTOptions):
        gated = blocks_from(shape, options.first)
        keep = spread(options.keep, len(gated))
        # the extra row is the representative of the tokens that a block leaves out
        super().__init__(shape, Schedule(shape.depth, shape.grid, gated, keep, extra_rows=1))
        self.options = options

    def _average(self, past_N: Tensor | None, now_N: Tensor) -> Tensor:
        """The moving average; the first block's attention begins it."""
        alpha = self.options.momentum
        return now_N if past_N is None else alpha * past_N + (1 - alpha) * now_N

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """The scores are the average of the attention received in the trunk's blocks, (N,)."""
        scores_N = None
        for block in blocks:
            scores_N = self._average(scores_N, received(block, x_ND))
            x_ND = block(x_ND)
        assert scores_N is not None  # `first` is at least 1
        return x_ND, scores_N

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """Selection is top-k in training too, as in the paper; there is nothing to learn but the blocks."""
        select = select or select_top(self.schedule.on(view.grid).target_candidates)
        keeps: list[Tensor] = []
        scores_BN = None
        for index, block in enumerate(blocks):
            if index not in self.gated or scores_BN is None:
                scores_BN = self._average(scores_BN, received(block, x_BND))
                x_BND = block(x_BND)
                continue
            keep_BN = select(len(keeps), scores_BN) > 0.5
            keeps.append(keep_BN.float())
            rest_BN = scores_BN * ~keep_BN
            # x_rep = sum over the others of A_g x, of the normalised A_g (the paper's slow-fast updating)
            share_BN1 = (rest_BN / rest_BN.sum(dim=-1, keepdim=True).clamp_min(1e-12))[..., None]
            rep_B1D = (share_BN1 * x_BND).sum(dim=1, keepdim=True)
            x_BMD = torch.cat((x_BND, rep_B1D), dim=1)
            # one that stands for nobody is not there
            there_BM = torch.cat((keep_BN, ~keep_BN.all(dim=-1, keepdim=True)), dim=1)
            attention_BN = received(block, x_BMD, there_BM)[:, :-1] * keep_BN
            held_B1 = (scores_BN * keep_BN).sum(dim=-1, keepdim=True)
            attention_BN = attention_BN * held_B1 / attention_BN.sum(dim=-1, keepdim=True).clamp_min(1e-12)
            scores_BN = torch.where(keep_BN, self._average(scores_BN, attention_BN), scores_BN)
            y_BMD = block(x_BMD, there_BM)
            # the slow update: what both branches of the block added to the representative
            x_BND = torch.where(keep_BN[..., None], y_BMD[:, :-1], x_BND + (y_BMD[:, -1:] - rep_B1D))
        return Masked(x_BND, keeps, x_BND.new_zeros((), dtype=torch.float32))

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """TopK -> gather, with the representative as last row -> block -> back into the full grid, per block."""
        selected: list[Tensor] = []
        scores_N = scores_S
        for gate, (block, count) in enumerate(zip(blocks, counts, strict=True)):
            read = min(counts[gate + 1 :], default=self.tokens) < self.tokens  # a later block selects by the average
            if count == self.tokens:
                if read:
                    scores_N = self._average(scores_N, received(block, x_ND))
                x_ND = block(x_ND)
                continue
            kept_K = scores_N.topk(count, sorted=False).indices
            selected.append(kept_K)
            rest_N = scores_N * torch.ones_like(scores_N).scatter(0, kept_K, 0.0)
            rep_1D = (rest_N / rest_N.sum())[None] @ x_ND
            x_MD = torch.cat((x_ND.index_select(0, kept_K), rep_1D))
            # the inverse map: what a cell has after, in rows of the old and then the new
            own_N = torch.arange(self.tokens, device=kept_K.device)
            rows_N = own_N.scatter(0, kept_K, own_N[:count] + self.tokens)
            if read:
                held_K = scores_N.index_select(0, kept_K)
                attention_K = received(block, x_MD)[:count]
                attention_K = attention_K * (held_K.sum() / attention_K.sum())
                scores_N = torch.cat((scores_N, self._average(held_K, attention_K))).index_select(0, rows_N)
            y_MD = block(x_MD)
            x_ND = torch.cat((x_ND + (y_MD[count:] - rep_1D), y_MD[:count])).index_select(0, rows_N)
        return Gathered(x_ND, selected)
