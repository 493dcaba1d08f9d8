"""DynaPrune-ViT: importance with context, deferred pruning, sparse-to-dense reconstruction.

Where this differs from the paper on purpose: the context is the attention's output in place of sum_j alpha_ij h_j, with a
LayerNorm in place of 1/N (`literal_context` brings 1/N back, not the h_j: see `Importance`); the regulariser holds the
share that is kept too; cells of tokens that remain keep their own token. `deferred: false`, the paper's ablation, lets all
tokens go at the first stage and so processes fewer: at the defaults 51% of the token-layers against 63%, so the two differ
in cost as well as in method.

Shapes: B batch, N tokens of the full grid, K tokens that remain, D width, S stages.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.blocks import Layer
from edgeprune.model.global_batch import squared_gap
from edgeprune.model.policy import Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.pruning.masking import attended, mix, offered, with_whole_images
from edgeprune.pruning.reconstruct import Learned, Nearest, Reconstruction
from edgeprune.pruning.sampling import Shares, WholeImagesOptions
from edgeprune.pruning.schedules import FallingSchedule, evenly_spaced
from edgeprune.pruning.selection import select_top
from edgeprune.pruning.token_index import TokenIndex


class DynaPruneOptions(WholeImagesOptions):
    """Settings of the `dynaprune` policy."""

    stages: list[Annotated[int, Field(ge=1)]] | None = Field(
        None,
        description="the blocks that stages precede, one for each value of `keep`; default: at even distances, 3, 6 and 9 "
        "of 12 blocks",
    )
    keep: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.7, 0.49, 0.343], min_length=1, description="r: target keep ratios of the stages, as shares of the grid"
    )
    deferred: bool = Field(
        True,
        description="tokens leave stage by stage; False: all that the last stage does not keep leave at the first, which also "
        "costs less",
    )
    literal_context: bool = Field(
        False, description="scores from h and context / N as published; default: a LayerNorm on each"
    )
    weight: float = Field(4.0, ge=0, description="lambda of the regulariser")
    regulariser: Literal["repaired", "literal"] = Field(
        "repaired",
        description="`literal`: the mean importance is held at r, as published, which importances of r everywhere fulfil; "
        "`repaired`: the share of tokens kept is held there too",
    )
    reconstruction: Literal["learned", "nearest", "preserve"] = Field(
        "learned",
        description="what a cell gets whose token left: `learned`: a weighted mean of those that remain; `nearest`: the "
        "nearest of them; `preserve`: the features it left with, as in SViT",
    )
    smooth: bool = Field(
        False,
        description="every cell is reconstructed, as published, also those of tokens that remain; the bucket of the full "
        "grid and an image that keeps every token reconstruct nothing",
    )


class Importance(nn.Module):
    """log s - log(1 - s) of s_i = sigmoid(w^T [h_i || context_i]), context_i = (1/N) sum_j alpha_ij h_j.

    The context is what the block before gave the token by attention, for weights of their own would keep engines from
    fusing it: values and projection stand between the h_j and the sum. The weights alpha sum to one already, so 1/N makes
    the context's half vanish beside h: a LayerNorm on each half sets both to one scale. `literal` leaves 1/N and no norms.
    """

    def __init__(self, width: int, literal: bool):
        super().__init__()
        self.norms = None if literal else nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        # w; the formula has no bias, and a LayerNorm's does its work
        self.w_1C = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 2 * width), std=0.02))

    def forward(self, x_ND: Tensor, context_ND: Tensor, there_N: Tensor | None = None) -> Tensor:
        """(..., N). `there_N`: ones for the tokens that remain; None: all of them."""
        if self.norms is None:
            count = x_ND.shape[-2] if there_N is None else there_N.float().sum(dim=-1).clamp_min(1)[..., None, None]
            context_ND = context_ND / count
        else:
            x_ND, context_ND = self.norms[0](x_ND), self.norms[1](context_ND)
        return F.linear(torch.cat((x_ND, context_ND), dim=-1), self.w_1C)[..., 0]


class DynaPrune(TokenPolicy):
    """Few stages; the blocks between them see every token that remains, so one that will go has told the others what it
    saw (deferred pruning). Before the head the cells of tokens that left are reconstructed from those that remain.

    The published f(p) holds at every p, but then no bucket, however large, would be near the dense model: a cell whose
    token remains would still be mixed with its neighbours. So it keeps its own token, and f(p) fills the others; `smooth`
    is the published form. The paper keeps floor(r N0) tokens; every policy here rounds, so that counts are equal.
    """

    def __init__(self, shape: Shape, options: DynaPruneOptions):
        stages, keep = options.stages, options.keep
        if stages is None:
            stages = list(evenly_spaced(shape, len(keep)))
        if len(stages) != len(keep) or stages != sorted(set(stages)) or stages[-1] >= shape.depth:
            raise InputError(
                f"policy: stages={stages} must be {len(keep)} rising numbers, one for each of keep={keep}, under the "
                f"model's {shape.depth} blocks"
            )
        if options.smooth and options.reconstruction != "learned":
            raise InputError(f"policy: smooth=true needs reconstruction=learned, not {options.reconstruction}")
        schedule = FallingSchedule(shape.depth, shape.grid, tuple(stages), tuple(keep))
        if not options.deferred:
            schedule = replace(schedule, gated=schedule.gated[:1], target_shares=schedule.target_shares[-1:])
        super().__init__(shape, schedule)
        self.options = options
        self.importance = nn.ModuleList(Importance(shape.width, options.literal_context) for _ in self.gated)
        self.reconstruction: Reconstruction | None = None
        if options.reconstruction != "preserve":
            self.not_in_region = (
                "its reconstruction measures distances over the whole grid; choose reconstruction=preserve"
            )
            self.reconstruction = (Learned if options.reconstruction == "learned" else Nearest)(shape.grid)

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """The scores are the first stage's, (N,), larger = keep."""
        context_ND = x_ND
        for block in blocks:
            assert isinstance(block, Layer)
            x_ND, context_ND = block.forward_with_context(x_ND)
        return x_ND, self.importance[0](x_ND, context_ND)

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """Decisions multiply: a token remains where every stage so far has kept it.

        A token that left is no key, and travels on as a query: what it would have become had it stayed. A decision then
        gets its gradient where it acts, straight through the hard sample:
        - as a key, through a bias of value 0 on its logit: what the token tells the others before it goes;
        - in the reconstruction, as a factor of its weight: what it is worth to the cells around it (`Learned.masked`);
        - in its own cell, where M h + (1 - M) f weighs the token against its reconstruction. Here alone tokens that left
          pull at their gates, and for that their h must be as deep as the others' f.
        With `preserve` a token that left stands still, x <- M Block(x) + (1 - M) x, and gates learn from that as in SViT.

        In training decisions are sampled: two-class Gumbel on [log s, log(1 - s)], straight through.
        """
        sampled = select is None and self.training
        shares = self.options.shares(x_BND.shape[0]) if sampled else Shares()
        whole = shares.whole
        if sampled:
            select = with_whole_images(lambda _, scores_BN: self.options.sample(scores_BN, view.progress), whole)
        select = select or select_top(self.schedule.on(view.grid).target_candidates)
        there_BN = torch.ones_like(x_BND[..., 0], dtype=torch.float32)
        context_BND = x_BND
        keeps: list[Tensor] = []
        importances: list[Tensor] = []
        chosen: list[Tensor] = []
        for index, block in enumerate(blocks):
            assert isinstance(block, Layer)
            for stage in self.schedule.decisions_at(index):
                before_BN = there_BN.detach()
                scores_BN = self.importance[stage](x_BND, context_BND, before_BN).float()
                # sampled also of tokens that left: a stage that would keep them says so to the stages before it
                choice_BN = select(stage, scores_BN if sampled else offered(scores_BN, before_BN >= 0.5)).float()
                importances.append((torch.sigmoid(scores_BN) * before_BN)[whole:])
                chosen.append((choice_BN * before_BN)[whole:])
                there_BN = there_BN * choice_BN
                keeps.append(there_BN)
            if not keeps:
                x_BND, context_BND = block.forward_with_context(x_BND)
                continue
            keys_BN = there_BN.detach() > 0.5
            bias_BN = there_BN - there_BN.detach() if there_BN.requires_grad else None
            y_BND, context_BND = block.forward_with_context(x_BND, attended(keys_BN), bias_BN)
            if self.reconstruction is None:
                x_BND = mix(there_BN, y_BND, x_BND)
            else:  # of nothing nothing is rebuilt
                x_BND = torch.where(keys_BN.any(dim=-1)[:, None, None], y_BND, x_BND)
        if self.reconstruction is not None:
            x_BND = self._rebuild(self.reconstruction, x_BND, there_BN, view.grid)
        return Masked(x_BND, keeps, shares.weight * self.loss(importances, chosen))

    def _rebuild(
        self, reconstruction: Reconstruction, x_BND: Tensor, there_BN: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """M h + (1 - M) f; with `smooth` f, with the gradient of the same. An image of which no token remains is as it is."""
        some_B1 = (there_BN.detach() > 0.5).any(dim=-1, keepdim=True)
        there_BN = torch.where(some_B1, there_BN, 1.0)
        f_BND = reconstruction.masked(x_BND, there_BN, grid)
        if not self.options.smooth:
            return mix(there_BN, x_BND, f_BND)
        there_BN1 = there_BN[..., None]
        every_B11 = (there_BN.detach() > 0.5).all(dim=-1)[:, None, None]
        pull_BND = (there_BN1 - there_BN1.detach()) * (x_BND - f_BND).detach()
        return torch.where(every_B11, x_BND, f_BND) + pull_BND

    def loss(self, importances: Sequence[Tensor], chosen: Sequence[Tensor]) -> Tensor:
        """lambda * sum over stages of (mean s - r)^2, repaired: + (mean of the hard mask - r)^2.

        r is a share of the whole grid, so tokens that left count as 0 in both. Means run over the batch of all processes, which
        leaves each image its own rate (the paper does not say; see SViT).

        Args:
            importances: s of each stage (B, N), 0 for tokens that left before it.
            chosen: the hard mask of each stage (B, N).
        """
        total = importances[0].new_zeros(())
        for s_BN, mask_BN, target in zip(importances, chosen, self.schedule.target_shares, strict=True):
            total = total + squared_gap(s_BN, target)
            if self.options.regulariser == "repaired":
                total = total + squared_gap(mask_BN, target)
        return self.options.weight * total

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """TopK -> gather per stage; the full grid is put together once, at the end."""
        index = TokenIndex(x_ND, self.tokens)
        x_KD = context_KD = x_ND
        for number, block in enumerate(blocks, start=self.schedule.trunk_depth):
            assert isinstance(block, Layer)
            for stage in self.schedule.decisions_at(number):
                if counts[stage] < x_KD.shape[0]:
                    scores_K = self.importance[stage](x_KD, context_KD) if stage else scores_S
                    x_KD = x_KD.index_select(0, index.leave_but_best(x_KD, scores_K, counts[stage]))
            x_KD, context_KD = block.forward_with_context(x_KD)
        if self.reconstruction is None:
            return Gathered(index.preserved(x_KD), index.selected_GK)
        if x_KD.shape[0] == self.tokens:
            return Gathered(x_KD)
        f_ND = self.reconstruction.gathered(x_KD, index.cells_K)
        return Gathered(f_ND if self.options.smooth else index.over(f_ND, x_KD), index.selected_GK)
