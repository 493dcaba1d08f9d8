"""ToMe: similar tokens become one (Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023).

Where the paper merges between attention and MLP, this merges behind the whole block: the trunk's graph ends before the
first decision, with whole blocks, and so do the counts that every comparison of methods is made from. What the paper
argues from stays: a token passes its information on in attention before it merges, and similarity is that of the keys
which this attention used. No merge follows the last block: it would be undone at once.

Tokens always stand in raster order of the cells that they keep, and alternate between the sources (even places) and what
they may merge into (odd places). The paper leaves the order open. Its code puts sources first, in order of similarity;
in a graph that would be the order of an engine's TopK.

Shapes: B batch, N tokens of the full grid, M tokens there, K those that remain, R those that merge into others, A sources,
C tokens that sources may merge into, D width, E size of the features compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.base.reading import Strict
from edgeprune.model.blocks import Block
from edgeprune.model.policy import GONE, Gathered, Masked, Select, Shape, TokenPolicy, View, select_top
from edgeprune.pruning.cells import without


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


class ToMe(TokenPolicy):
    """After each block but the last, the sources that have the most similar partners merge into these."""

    merges = True

    def __init__(self, shape: Shape, options: ToMeOptions):
        super().__init__(shape)
        if shape.depth < 2:
            raise InputError("policy: tome merges between blocks, the model has one")
        self.options = options
        self.gated = tuple(range(1, shape.depth))

    @property
    def target_keep(self) -> tuple[float, ...]:
        """Falls evenly to `keep`, but no faster than by half at once: what is left of the sources' partners."""
        shares = [1.0]
        for gate in range(1, len(self.gated) + 1):
            shares.append(max(1 - (1 - self.options.keep) * gate / len(self.gated), shares[-1] / 2))
        return tuple(shares[1:])

    @property
    def chosen_shares(self) -> tuple[float, ...]:
        """Sources that stay apart, of half the grid: what one image gives scores for at most."""
        before = (1.0, *self.target_keep)
        return tuple(pair_share(there, remain) for there, remain in zip(before, self.target_keep, strict=False))

    def target_counts(self, tokens: int) -> list[int]:
        return list(falling(super().target_counts(tokens), tokens))

    def feasible(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Counts that never rise and never fall by more than half."""
        return falling(counts, self.tokens)

    def candidates(self, counts: Sequence[int]) -> list[int]:
        """Sources that stay apart; each of the others merges into the token most similar to it."""
        return apart(counts, self.tokens)

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        """Scores: of each source, then the number of its partner as a float (exact; one tensor is what a trunk gives)."""
        for block in blocks[:-1]:
            x_ND = block(x_ND)
        best_A, match_A = partners(keys(blocks[-1], x_ND))
        return blocks[-1](x_ND), torch.cat((-best_A, match_A.to(best_A.dtype)))

    def need(self, scores_S: Tensor, threshold: float) -> Tensor:
        """The partners, and the sources over the threshold."""
        apart_A = scores_S[: self.tokens - self.tokens // 2] > threshold
        return apart_A.sum(dtype=torch.int32) + self.tokens // 2

    def masked(
        self, blocks: Sequence[nn.Module], x_BND: Tensor, select: Select | None = None, view: View | None = None
    ) -> Masked:
        """Merges for real, image by image: r is a constant unless `select` says otherwise, and an image that keeps fewer
        tokens than its batch mates is filled up with padding that nothing attends to.

        Candidates are sources; their score is the cosine to the partner, negated.
        """
        tokens = x_BND.shape[1]
        if select is None:
            select = select_top(apart(self.target_counts(tokens), tokens))
        groups = Groups.of_single(x_BND)
        keeps: list[Tensor] = []
        owners: list[Tensor] = []
        before_BMD = x_BND
        for index, block in enumerate(blocks):
            if index:
                with torch.no_grad():  # a cosine decides, and learns nothing
                    keys_BME = keys(blocks[index - 1], before_BMD)
                groups = groups.merge(choose_pairs(index - 1, keys_BME, groups, select))
                keeps.append(groups.alive_BN.to(x_BND.dtype))
                owners.append(groups.owner_BN)
            before_BMD = groups.x_BMD
            groups.x_BMD = block(groups.x_BMD, groups.keys_BM, groups.bias_BM)
        return Masked(groups.unmerge(), keeps, x_BND.new_zeros(()), group_GBN=owners)

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """TopK -> merge -> block, per decision; where nothing merges, the block alone."""
        self.kept_GK.clear()
        frame = Frame(x_ND)
        sources = scores_S.shape[0] // 2
        best_A, match_A = -scores_S[:sources], scores_S[sources:].long()
        before_MD = x_ND
        for gate, (block, count) in enumerate(zip(blocks, counts, strict=True)):
            merging = frame.x_MD.shape[0] - count
            if merging:
                if gate:
                    best_A, match_A = partners(keys(blocks[gate - 1], before_MD))
                taken_R = best_A.topk(merging, sorted=False).indices
                self.kept_GK.append(taken_R)
                frame = merge_pairs(frame, taken_R, match_A)
            before_MD = frame.x_MD
            frame.x_MD = block(frame.x_MD, None, frame.bias_M)
        return Gathered(frame.unmerge())


# ------------------------------------------------------------------------------------------------ counts


def falling(counts: Sequence[int], tokens: int) -> tuple[int, ...]:
    """The smallest counts, none under those asked for, that never rise and never fall by more than half."""
    there, found = tokens, []
    for gate in range(len(counts)):
        there = max(*counts[gate:], there // 2, 1)
        found.append(there)
    return tuple(found)


def sources_apart(there: int, remain: int) -> int:
    """How many sources stay when so many of the tokens there remain."""
    return ceil(there / 2) - (there - remain)


def pair_share(there: float, remain: float) -> float:
    """The same in shares of the grid, as a share of half the grid."""
    return max(0.0, 2 * remain - there)


def apart(counts: Sequence[int], tokens: int) -> list[int]:
    """The same of each decision, in the order of `counts`."""
    return [sources_apart(there, count) for there, count in zip((tokens, *counts), counts, strict=False)]


# ------------------------------------------------------------------------------------------------ matching


def keys(block: nn.Module, x_MD: Tensor) -> Tensor:
    """What ToMe compares the tokens x (..., M, D) by, of which `block` makes the next: its keys, the mean of the heads."""
    assert isinstance(block, Block)
    return block.attn.keys(block.norm1(x_MD))


def partners(features_ME: Tensor, there_M: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Section 3.2, steps 1 to 3: each source's most similar token of the other half.

    Args:
        features_ME: (..., M, E), in order.
        there_M: (..., M) False for padding; M is even.

    Returns:
        the cosine (..., A), and the partner's number among the odd places (..., A).
    """
    unit_ME = F.normalize(features_ME.float(), dim=-1)
    cosine_AC = unit_ME[..., 0::2, :] @ unit_ME[..., 1::2, :].transpose(-2, -1)
    if there_M is not None:
        cosine_AC = cosine_AC.masked_fill(~there_M[..., None, 1::2], -2.0)
    return cosine_AC.amax(-1), cosine_AC.argmax(-1)


# ------------------------------------------------------------------------------------------------ training form


@dataclass
class Groups:
    """The tokens of a batch, each of which stands for one cell or more.

    M: as many as the image with the most; those of an image stand first, in raster order, then padding.

    Attributes:
        size_BM: how many cells each stands for; 0: padding.
        count_B: how many are there.
        owner_BN: of each cell, the token that stands for it.
        alive_BN: the cells that tokens keep: the first of a window, the partner's of a pair.
    """

    x_BMD: Tensor
    size_BM: Tensor
    count_B: Tensor
    owner_BN: Tensor
    alive_BN: Tensor

    @classmethod
    def of_single(cls, x_BND: Tensor) -> "Groups":
        """Each cell its own token."""
        batch, tokens, _ = x_BND.shape
        own_BN = torch.arange(tokens, device=x_BND.device).expand(batch, -1)
        one_BN = torch.ones(batch, tokens, device=x_BND.device)
        return cls(x_BND, one_BN, one_BN.sum(-1).long(), own_BN, one_BN > 0)

    @property
    def there_BM(self) -> Tensor:
        return self.size_BM > 0

    @property
    def keys_BM(self) -> Tensor | None:
        """What may be attended to; None where no image has padding."""
        there_BM = self.there_BM
        return None if there_BM.all() else there_BM

    @property
    def bias_BM(self) -> Tensor | None:
        """Equation 1, proportional attention: the log of a token's size; None where all are single."""
        return self.size_BM.clamp_min(1).log() if (self.size_BM > 1).any() else None

    def merge(self, into_BM: Tensor) -> "Groups":
        """Means weighted by size. `into_BM`: the place that each token merges into, its own where it stays."""
        batch, width, _ = self.x_BMD.shape
        stays_BM = self.there_BM & (into_BM == torch.arange(width, device=into_BM.device))
        to_BM = (stays_BM.cumsum(-1) - 1).gather(1, into_BM)
        count_B = stays_BM.sum(-1)
        widest = int(count_B.max())
        size_BK = self.size_BM.new_zeros(batch, widest).scatter_add(1, to_BM, self.size_BM)
        share_BM1 = (self.size_BM / size_BK.gather(1, to_BM))[..., None].to(self.x_BMD.dtype)
        x_BKD = torch.zeros_like(self.x_BMD[:, :widest]).scatter_add(
            1, to_BM[..., None].expand_as(self.x_BMD), self.x_BMD * share_BM1
        )
        # the token of a cell that is alive is as many as are alive before it
        place_BN = (self.alive_BN.cumsum(-1) - 1).clamp_min(0)
        return Groups(
            x_BKD, size_BK, count_B, to_BM.gather(1, self.owner_BN), self.alive_BN & stays_BM.gather(1, place_BN)
        )

    def unmerge(self) -> Tensor:
        """Each cell takes the token that stands for it, (B, N, D)."""
        return self.x_BMD.gather(1, self.owner_BN[..., None].expand(-1, -1, self.x_BMD.shape[-1]))


def choose_pairs(gate: int, features_BME: Tensor, groups: Groups, select: Select) -> Tensor:
    """The place that each token merges into (B, M) after `select` has seen the sources, larger = keep apart.

    Scores have one width, half the grid, however many tokens are left: calibration takes its quantile over them.
    """
    tokens, width = groups.owner_BN.shape[1], features_BME.shape[1]
    there_BM = F.pad(groups.there_BM, (0, width % 2))
    with torch.autocast(features_BME.device.type, enabled=False):  # bf16 makes many cosines equal
        best_BA, match_BA = partners(F.pad(features_BME, (0, 0, 0, width % 2)), there_BM)
    scores_BA = (-best_BA).masked_fill(~there_BM[:, 0::2], GONE)
    short = ceil(tokens / 2) - scores_BA.shape[1]
    keep_BA = select(gate, F.pad(scores_BA, (0, short), value=GONE))[:, : scores_BA.shape[1]] > 0.5
    # a last token that is alone has no partner
    apart_BA = keep_BA | ~there_BM[:, 0::2] | (groups.count_B < 2)[:, None]
    source_A = 2 * torch.arange(scores_BA.shape[1], device=scores_BA.device)
    into_BA = torch.where(apart_BA, source_A, 2 * match_BA + 1)
    return torch.stack((into_BA, (source_A + 1).expand_as(into_BA)), -1).flatten(1)[:, :width]


# ------------------------------------------------------------------------------------------------ inference form


@dataclass
class Frame:
    """The same of one frame at constant counts. None: each token is a cell."""

    x_MD: Tensor
    size_M: Tensor | None = None
    owner_N: Tensor | None = None

    @property
    def bias_M(self) -> Tensor | None:
        return None if self.size_M is None else self.size_M.log()

    def unmerge(self) -> Tensor:
        """The full grid, (N, D)."""
        return self.x_MD if self.owner_N is None else self.x_MD.index_select(0, self.owner_N)


def merge_pairs(frame: Frame, taken_R: Tensor, match_A: Tensor) -> Frame:
    """`taken_R`: sources that merge into their partners, in any order. A one-hot MatMul instead of a scatter that sums."""
    there = frame.x_MD.shape[0]
    size_M = frame.x_MD.new_ones(there) if frame.size_M is None else frame.size_M
    source_R, partner_R = 2 * taken_R, 2 * match_A.index_select(0, taken_R) + 1
    new_M, old_K = without(source_R, there)
    into_R = new_M.index_select(0, partner_R)
    gains_KR = (into_R == torch.arange(old_K.shape[0], device=into_R.device)[:, None]).to(size_M.dtype)
    gains_KR = gains_KR * size_M.index_select(0, source_R)
    own_K = size_M.index_select(0, old_K)
    size_K = own_K + gains_KR.sum(-1)
    # shares before sums: sizes of hundreds times features of hundreds leave FP16's range
    x_KD = frame.x_MD.index_select(0, old_K) * (own_K / size_K)[:, None]
    x_KD = x_KD + (gains_KR / size_K[:, None]) @ frame.x_MD.index_select(0, source_R)
    to_M = new_M.scatter(0, source_R, into_R)
    return Frame(x_KD, size_K, to_M if frame.owner_N is None else to_M.index_select(0, frame.owner_N))
