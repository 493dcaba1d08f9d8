"""ToMe: similar tokens become one (Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023).

Where the paper merges between attention and MLP, this merges behind the whole block: the trunk's graph ends before the
first decision, with whole blocks, and so do the counts that every comparison of methods is made from. What the paper
argues from stays: a token passes its information on in attention before it merges, and similarity is that of the keys
which this attention used. No merge follows the last block: it would be undone at once.

Tokens always stand in raster order of the cells that they keep, and alternate between the sources (even places) and what
they may merge into (odd places). The paper leaves the order open. Its code puts sources first, in order of similarity;
in a graph that would be the order of an engine's TopK.

Shapes: B batch, N tokens of the full grid, M tokens there, R those that merge into others, A sources, D width, E size of the
features compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.base.reading import Strict
from edgeprune.model.blocks import Layer
from edgeprune.model.policy import Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.model.schedule import Schedule
from edgeprune.pruning.merging import Groups, MergedTokens, choose_pairs, merge_pairs, partners
from edgeprune.pruning.selection import select_top


class ToMeOptions(Strict):
    """Settings of the `tome` policy.

    The paper's r is constant over the blocks and so is this one, set by what it leaves, whatever the grid and depth: of
    768 tokens and 12 blocks .1 leaves 77, r is 63, and 45% of the token-layers go. The paper's r = 13 leaves a DeiT .27.
    """

    keep: float = Field(
        0.1,
        gt=0,
        le=1,
        description="share of the tokens that are left for the last block; equally many go after each block before it",
    )


@dataclass(frozen=True)
class PairSchedule(Schedule):
    """The schedule of a method that merges pairs: counts never rise, and never fall by more than half. Candidates are
    sources; each of those that don't stay apart merges into the token most similar to it."""

    def round_up(self, counts: Sequence[int]) -> tuple[int, ...]:
        return falling_by_half(counts, self.tokens)

    def candidates(self, counts: Sequence[int]) -> list[int]:
        return [sources_apart(there, count) for there, count in zip((self.tokens, *counts), counts, strict=False)]

    @property
    def candidate_shares(self) -> tuple[float, ...]:
        """Sources that stay apart, of half the grid: what one image gives scores for at most."""
        before = (1.0, *self.target_shares)
        return tuple(pair_share(there, remain) for there, remain in zip(before, self.target_shares, strict=False))


def falling_by_half(counts: Sequence[int], tokens: int) -> tuple[int, ...]:
    """The smallest counts, none under those asked for, that never rise and never fall by more than half."""
    there, found = tokens, []
    for decision in range(len(counts)):
        there = max(*counts[decision:], there // 2, 1)
        found.append(there)
    return tuple(found)


def sources_apart(there: int, remain: int) -> int:
    """How many sources stay apart when so many of the tokens there remain."""
    return ceil(there / 2) - (there - remain)


def pair_share(there: float, remain: float) -> float:
    """Sources that stay apart as a share of half the grid, from shares of the grid."""
    return max(0.0, 2 * remain - there)


def evenly_falling(keep: float, decisions: int) -> tuple[float, ...]:
    """Shares that fall evenly to `keep`, but no faster than by half at once: what is left of the sources' partners."""
    shares = [1.0]
    for decision in range(1, decisions + 1):
        shares.append(max(1 - (1 - keep) * decision / decisions, shares[-1] / 2))
    return tuple(shares[1:])


class ToMe(TokenPolicy):
    """After each block but the last, the sources that have the most similar partners merge into these."""

    keeps_grid = False

    def __init__(self, shape: Shape, options: ToMeOptions):
        if shape.depth < 2:
            raise InputError("policy: tome merges between blocks, the model has one")
        gated = tuple(range(1, shape.depth))
        shares = evenly_falling(options.keep, len(gated))
        super().__init__(shape, PairSchedule(shape.depth, shape.grid, gated, shares, merging=len(gated)))

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        """Scores: of each source, then the number of its partner as a float (exact; one tensor is what a trunk gives)."""
        for block in blocks[:-1]:
            x_ND = block(x_ND)
        best_A, match_A = partners(keys(blocks[-1], x_ND))
        return blocks[-1](x_ND), torch.cat((-best_A, match_A.to(best_A.dtype)))

    def required_tokens(self, scores_S: Tensor, thresholds: Sequence[float]) -> Tensor:
        """The partners, and the sources over the threshold."""
        apart_A = scores_S[: self.tokens - self.tokens // 2] > thresholds[0]
        return apart_A.sum(dtype=torch.int32) + self.tokens // 2

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """Merges for real, image by image: r is a constant unless `select` says otherwise; then an image is filled up with
        padding that nothing attends to.

        Candidates are sources; their score is the cosine to the partner, negated.
        """
        schedule = self.schedule.on(view.grid)
        counts: Sequence[int | None] = schedule.target_counts if select is None else [None] * len(self.gated)
        select = select or select_top(schedule.target_candidates)
        groups = Groups.of_single(x_BND)
        keeps: list[Tensor] = []
        owners: list[Tensor] = []
        before_BMD = x_BND
        for index, block in enumerate(blocks):
            for decision in self.schedule.decisions_at(index):
                with torch.no_grad():  # a cosine decides, and learns nothing
                    keys_BME = keys(blocks[index - 1], before_BMD)
                groups = groups.merge(choose_pairs(decision, keys_BME, groups, select), counts[decision])
                keeps.append(groups.alive_BN.to(x_BND.dtype))
                owners.append(groups.owner_BN)
            before_BMD = groups.x_BMD
            groups.x_BMD = block(groups.x_BMD, groups.keys_BM, groups.bias_BM)
        return Masked(groups.unmerge(), keeps, x_BND.new_zeros(()), group_GBN=owners)

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """TopK -> merge -> block, per decision; where nothing merges, the block alone."""
        selected: list[Tensor] = []
        tokens = MergedTokens(x_ND)
        sources = scores_S.shape[0] // 2
        best_A, match_A = -scores_S[:sources], scores_S[sources:].long()
        before_MD = x_ND
        for decision, (block, count) in enumerate(zip(blocks, counts, strict=True)):
            merging = tokens.x_MD.shape[0] - count
            if merging:
                if decision:
                    best_A, match_A = partners(keys(blocks[decision - 1], before_MD))
                selected.append(best_A.topk(merging, sorted=False).indices)
                tokens = merge_pairs(tokens, selected[-1], match_A)
            before_MD = tokens.x_MD
            tokens.x_MD = block(tokens.x_MD, None, tokens.bias_M)
        return Gathered(tokens.unmerge(), selected)


def keys(block: nn.Module, x_MD: Tensor) -> Tensor:
    """What ToMe compares the tokens x (..., M, D) by, of which `block` makes the next: its keys, the mean of the heads."""
    assert isinstance(block, Layer)
    return block.keys(x_MD)
