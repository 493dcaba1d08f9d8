"""Merging: what methods share that make one token of several, wherever these are in the frame. ToMe's matching, the groups of
a batch in training, and those of one frame at constant counts.

Shapes: B batch, N tokens of the full grid, M tokens there, K those that remain, R those that merge into others, A sources,
C tokens that sources may merge into, D width, E size of the features compared.
"""

from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.model.policy import EXCLUDED_SCORE, Select
from edgeprune.pruning.masking import offered
from edgeprune.pruning.token_index import compaction_maps


def partners(features_ME: Tensor, there_M: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """ToMe's matching (Bolya 2023, section 3.2, steps 1 to 3): tokens alternate between sources (even places) and what they
    may merge into (odd places); this is each source's most similar token of the other half.

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

    The tokens of an image stand first, in raster order, then padding. M is a number that the host knows: what is on the device
    is never read.

    Attributes:
        size_BM: how many cells each stands for; 0: padding.
        count_B: how many are there.
        owner_BN: of each cell, the token that stands for it.
        alive_BN: the cells that tokens keep: the first of a window, the partner's of a pair.
        merged: whether any of them may stand for several cells.
        padded: whether any may be padding.
    """

    x_BMD: Tensor
    size_BM: Tensor
    count_B: Tensor
    owner_BN: Tensor
    alive_BN: Tensor
    merged: bool = False
    padded: bool = False

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
        """What may be attended to; None without padding."""
        return self.there_BM if self.padded else None

    @property
    def bias_BM(self) -> Tensor | None:
        """ToMe's equation 1, proportional attention: the log of a token's size; None where all are single."""
        return self.size_BM.clamp_min(1).log() if self.merged else None

    def merge(self, into_BM: Tensor, remain: int | None = None) -> "Groups":
        """Means weighted by size.

        Args:
            into_BM: the place that each token merges into, its own where it stays.
            remain: how many tokens stay in each image; None: each its own number, and M does not change.
        """
        batch, width, _ = self.x_BMD.shape
        remain, padded = (width, True) if remain is None else (remain, self.padded)
        stays_BM = self.there_BM & (into_BM == torch.arange(width, device=into_BM.device))
        to_BM = (stays_BM.cumsum(-1) - 1).gather(1, into_BM)
        size_BK = self.size_BM.new_zeros(batch, remain).scatter_add(1, to_BM, self.size_BM)
        share_BM1 = (self.size_BM / size_BK.gather(1, to_BM))[..., None].to(self.x_BMD.dtype)
        x_BKD = torch.zeros_like(self.x_BMD[:, :remain]).scatter_add(
            1, to_BM[..., None].expand_as(self.x_BMD), self.x_BMD * share_BM1
        )
        # the token of a cell that is alive is as many as are alive before it
        place_BN = (self.alive_BN.cumsum(-1) - 1).clamp_min(0)
        return Groups(
            x_BKD,
            size_BK,
            stays_BM.sum(-1),
            to_BM.gather(1, self.owner_BN),
            self.alive_BN & stays_BM.gather(1, place_BN),
            merged=self.merged or padded or remain < width,
            padded=padded,
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
    scores_BA = offered(-best_BA, there_BM[:, 0::2])
    short = ceil(tokens / 2) - scores_BA.shape[1]
    keep_BA = select(gate, F.pad(scores_BA, (0, short), value=EXCLUDED_SCORE))[:, : scores_BA.shape[1]] > 0.5
    # a last token that is alone has no partner
    apart_BA = keep_BA | ~there_BM[:, 0::2] | (groups.count_B < 2)[:, None]
    source_A = 2 * torch.arange(scores_BA.shape[1], device=scores_BA.device)
    into_BA = torch.where(apart_BA, source_A, 2 * match_BA + 1)
    return torch.stack((into_BA, (source_A + 1).expand_as(into_BA)), -1).flatten(1)[:, :width]


# ------------------------------------------------------------------------------------------------ inference form


@dataclass
class MergedTokens:
    """The tokens of one frame at constant counts, each of which stands for one cell or more.

    Attributes:
        size_M: how many cells each stands for; None: one.
        owner_N: of each cell, the row that stands for it; None: its own.
    """

    x_MD: Tensor
    size_M: Tensor | None = None
    owner_N: Tensor | None = None

    @property
    def bias_M(self) -> Tensor | None:
        return None if self.size_M is None else self.size_M.log()

    def unmerge(self) -> Tensor:
        """The full grid, (N, D)."""
        return self.x_MD if self.owner_N is None else self.x_MD.index_select(0, self.owner_N)


def merge_pairs(tokens: MergedTokens, taken_R: Tensor, match_A: Tensor) -> MergedTokens:
    """`taken_R`: sources that merge into their partners, in any order. A one-hot MatMul instead of a scatter that sums."""
    there = tokens.x_MD.shape[0]
    size_M = tokens.x_MD.new_ones(there) if tokens.size_M is None else tokens.size_M
    source_R, partner_R = 2 * taken_R, 2 * match_A.index_select(0, taken_R) + 1
    new_M, old_K = compaction_maps(source_R, there)
    into_R = new_M.index_select(0, partner_R)
    gains_KR = (into_R == torch.arange(old_K.shape[0], device=into_R.device)[:, None]).to(size_M.dtype)
    gains_KR = gains_KR * size_M.index_select(0, source_R)
    own_K = size_M.index_select(0, old_K)
    size_K = own_K + gains_KR.sum(-1)
    # shares before sums: sizes of hundreds times features of hundreds leave FP16's range
    x_KD = tokens.x_MD.index_select(0, old_K) * (own_K / size_K)[:, None]
    x_KD = x_KD + (gains_KR / size_K[:, None]) @ tokens.x_MD.index_select(0, source_R)
    to_M = new_M.scatter(0, source_R, into_R)
    return MergedTokens(x_KD, size_K, to_M if tokens.owner_N is None else to_M.index_select(0, tokens.owner_N))
