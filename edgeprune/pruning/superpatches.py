"""Superpatches: what methods share that look at the image once and merge cells of one class before the first block.

Shapes: B batch, N tokens of the full grid, S cells of one side, P = side^2 patches of one, R cells that merge, M tokens that
remain, C channels, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.model.policy import EXCLUDED_SCORE, View
from edgeprune.pruning.cells import cell_of, count_cells, loose_patches, patches_of, place_in_cell
from edgeprune.pruning.masking import offered
from edgeprune.pruning.token_index import compaction_maps

STRIDE = 32  # pixels, of the finest features: one cell of 2x2 patches
PATCH = STRIDE // 2  # what the CNN sees; patches of another size are resized to it
CHANNELS = (16, 32, 64, 128, 128)  # at strides 2 to 32


def _separable(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """A depthwise 3x3 and a pointwise convolution (Howard 2017)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, stride=stride, padding=1, groups=channels_in, bias=False),
        nn.BatchNorm2d(channels_in),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Purity(nn.Module):
    """Image -> the logit that a cell holds one class, for each cell of each side.

    In place of the paper's EfficientNet-Lite0: a convolution of stride 2, four depthwise-separable ones of stride 2 and a
    last one of stride 1, so that a cell sees its surroundings. 55 million MACs at 384x512 and 221 at 768x1024: 0.8% and 0.4%
    of a dense ViT-Tiny's 6.8 and 60 billion, for attention grows with the square, but a fifth of a trunk that is the
    convolutional stem and this. Cells of more than 2x2 patches take mean and maximum of the same features: what is equal
    everywhere has both alike. There is no further normalisation over the batch, for a crop holds few large cells.
    """

    def __init__(self, sides: Sequence[int]):
        super().__init__()
        self.sides = tuple(sides)
        self.first = nn.Sequential(
            nn.Conv2d(3, CHANNELS[0], 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(CHANNELS[0]), nn.ReLU()
        )
        self.body = nn.Sequential(
            *(_separable(before, after, 2) for before, after in pairwise(CHANNELS)),
            _separable(CHANNELS[-1], CHANNELS[-1], 1),
        )
        self.heads = nn.ModuleList(self._head(CHANNELS[-1] * (1 if side == 2 else 2)) for side in self.sides)

    @staticmethod
    def _head(channels: int) -> nn.Sequential:
        hidden = CHANNELS[-1]
        return nn.Sequential(
            nn.LayerNorm(channels, eps=1e-6), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Logits (B, S) of each side."""
        height, width = (size // STRIDE * STRIDE for size in images_B3HW.shape[-2:])
        if (height, width) != images_B3HW.shape[-2:]:
            images_B3HW = images_B3HW[..., :height, :width]
        x_BCHW = self.body(self.first(images_B3HW))
        return [self._logits(head, x_BCHW, side // 2) for side, head in zip(self.sides, self.heads, strict=True)]

    @staticmethod
    def _logits(head: nn.Module, x_BCHW: Tensor, size: int) -> Tensor:
        window = min(size, *x_BCHW.shape[-2:])
        if size > 1:
            x_BCHW = torch.cat((F.avg_pool2d(x_BCHW, window), F.max_pool2d(x_BCHW, window)), dim=1)
        logits_BS: Tensor = head(x_BCHW.flatten(2).transpose(1, 2))[..., 0]
        return logits_BS if window == size else logits_BS[:, :0]  # a crop smaller than one cell; still tied to the head


def purity_targets(labels_BHW: Tensor, pixels: int) -> Tensor:
    """Ones for the cells (B, S), of so many pixels' side, that hold one class: their smallest label is their largest. Cells of
    ignore alone are pure, one class and ignore is mixed."""
    labels_B1HW = labels_BHW[:, None].float()
    if min(labels_BHW.shape[-2:]) < pixels:
        return labels_B1HW.new_zeros(len(labels_BHW), 0)
    largest_B1HW = F.max_pool2d(labels_B1HW, pixels)
    smallest_B1HW = -F.max_pool2d(-labels_B1HW, pixels)
    return (largest_B1HW == smallest_B1HW).float().flatten(1)


def purity_loss(logits: Sequence[Tensor], sides: Sequence[int], view: View) -> Tensor:
    """Binary cross-entropy, mean over the cells of a side, summed over sides; without labels 0, still tied to the CNN."""
    total = torch.stack([logits_BS.float().sum() for logits_BS in logits]).sum() * 0
    if view.labels_BHW is None:
        return total
    for logits_BS, side in zip(logits, sides, strict=True):
        if logits_BS.shape[1]:
            target_BS = purity_targets(view.labels_BHW, side * view.patch)
            total = total + F.binary_cross_entropy_with_logits(logits_BS.float(), target_BS)
    return total


# ------------------------------------------------------------------------------------------------ counts


def round_up_merges(
    counts: Sequence[int], tokens: int, grid: tuple[int, int], sides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """How many cells of each side merge, and the smallest counts, none under those asked for, that this leaves. A merged
    cell of side s takes s^2 - 1 tokens away and its smaller cells out of the offer."""
    merges: list[int] = []
    found: list[int] = []
    for level, side in enumerate(sides):
        inside = sum(merged * (larger // side) ** 2 for merged, larger in zip(merges, sides, strict=False))
        wanted = max(0, tokens - max(counts[level:])) // (side * side - 1)
        merges.append(min(count_cells(grid, side) - inside, wanted))
        tokens -= merges[-1] * (side * side - 1)
        found.append(tokens)
    return merges, found


def cells_apart(merges: Sequence[int], grid: tuple[int, int], sides: Sequence[int]) -> list[int]:
    """How many cells of each side are offered and stay apart."""
    return [
        count_cells(grid, side)
        - sum(merged * (larger // side) ** 2 for merged, larger in zip(merges[: level + 1], sides, strict=False))
        for level, side in enumerate(sides)
    ]


def tokens_left(
    scores: Sequence[Tensor], sides: Sequence[int], grid: tuple[int, int], thresholds: Sequence[float]
) -> Tensor:
    """Tokens that remain of one frame when cells merge that aren't over their side's threshold; INT32."""
    tokens = torch.full((), grid[0] * grid[1], dtype=torch.int32, device=scores[0].device)
    covered_S: Tensor | None = None
    for level, (side, scores_S, threshold) in enumerate(zip(sides, scores, thresholds, strict=True)):
        if not scores_S.shape[0]:  # a region has none so large
            continue
        merged_S = (scores_S <= threshold).float()
        if covered_S is not None:
            covered_S = _inside(covered_S, cell_of(grid, sides[level - 1], side, scores_S.device))
            merged_S = merged_S * (1 - covered_S)
        tokens = tokens - merged_S.sum().to(torch.int32) * (side * side - 1)
        covered_S = merged_S if covered_S is None else merged_S + covered_S
    return tokens


def _inside(values_S: Tensor, cell_N: Tensor) -> Tensor:
    """The value (..., N) of the cell that each smaller one lies in, 0 where it lies in none."""
    return F.pad(values_S, (0, 1)).index_select(-1, cell_N)


# ------------------------------------------------------------------------------------------------ training form


@dataclass
class Sharing:
    """Tokens of a batch on the full grid: every patch of a merged cell holds the cell's token.

    Attributes:
        owner_BN: of each patch, the first one of its cell; itself where it is alone.
        covered_BN: True in merged cells.
    """

    x_BND: Tensor
    grid: tuple[int, int]
    owner_BN: Tensor
    covered_BN: Tensor

    @classmethod
    def of_single(cls, x_BND: Tensor, grid: tuple[int, int]) -> "Sharing":
        own_BN = torch.arange(x_BND.shape[1], device=x_BND.device).expand(x_BND.shape[0], -1)
        return cls(x_BND, grid, own_BN, torch.zeros_like(own_BN, dtype=torch.bool))

    @property
    def alive_BN(self) -> Tensor:
        """True for the patches that stand for their cells."""
        return self.owner_BN == torch.arange(self.owner_BN.shape[1], device=self.owner_BN.device)

    def offered(self, logits_BS: Tensor, side: int) -> Tensor:
        """What `select` sees, larger = stay apart: the logit of a mixed cell, and `EXCLUDED_SCORE` inside a merged one."""
        first_S = patches_of(self.grid, side, logits_BS.device)[:, 0]
        return offered(-logits_BS.detach().float(), ~self.covered_BN.index_select(1, first_S))

    def merge(self, apart_BS: Tensor, side: int) -> None:
        """The cells that are not `apart` (and in no larger one) become one token each: the mean of their patches'."""
        device = self.x_BND.device
        patches_SP = patches_of(self.grid, side, device)
        covered_BS = self.covered_BN.index_select(1, patches_SP[:, 0])
        merged_BS = (apart_BS < 0.5) & ~covered_BS
        cell_N = cell_of(self.grid, side, 1, device)
        merged_BN = _inside(merged_BS.float(), cell_N) > 0.5
        mean_BSD = self.x_BND.index_select(1, patches_SP.flatten()).unflatten(1, patches_SP.shape).mean(2)
        spread_BND = F.pad(mean_BSD, (0, 0, 0, 1)).index_select(1, cell_N)
        self.x_BND = torch.where(merged_BN[..., None], spread_BND, self.x_BND)
        self.owner_BN = torch.where(merged_BN, _inside(patches_SP[:, 0], cell_N), self.owner_BN)
        self.covered_BN = self.covered_BN | merged_BN

    def shared(self, values_BN: Tensor) -> Tensor:
        """Each patch takes the value of the one that stands for its cell."""
        return values_BN.gather(1, self.owner_BN)


# ------------------------------------------------------------------------------------------------ inference form


@dataclass
class Shared:
    """Tokens of one frame at constant counts, a merged cell's in one row.

    Attributes:
        x_MD: merged cells, largest side first, then single patches.
        cells_M: the patch that stands for each row; None: all in order, for nothing is merged.
        owner_N: of each patch, the row that stands for it; None: its own.
    """

    x_MD: Tensor
    cells_M: Tensor | None = None
    owner_N: Tensor | None = None


def choose_cells(
    scores: Sequence[Tensor], sides: Sequence[int], grid: tuple[int, int], merges: Sequence[int]
) -> list[Tensor | None]:
    """The cells (R,) of each side that merge, the purest first in line, none of them inside another; None for none."""
    chosen: list[Tensor | None] = []
    covered_S: Tensor | None = None
    for level, (side, scores_S, count) in enumerate(zip(sides, scores, merges, strict=True)):
        if covered_S is not None:
            covered_S = _inside(covered_S, cell_of(grid, sides[level - 1], side, scores_S.device))
            scores_S = torch.where(covered_S > 0.5, -EXCLUDED_SCORE, scores_S)
        if not count:
            chosen.append(None)
            continue
        taken_R = scores_S.topk(count, largest=False, sorted=False).indices
        covered_S = torch.zeros_like(scores_S) if covered_S is None else covered_S
        covered_S = covered_S.scatter(0, taken_R, torch.ones_like(taken_R, dtype=scores_S.dtype))
        chosen.append(taken_R)
    return chosen


def merge_cells(x_ND: Tensor, chosen: Sequence[Tensor | None], sides: Sequence[int], grid: tuple[int, int]) -> Shared:
    """Rows of merged cells, then those of the finest cells that stay apart, then those of patches in no cell.

    All bookkeeping is on the finest cells, a quarter of the patches or fewer: which of them are gone, and the row where
    the others begin. One scatter of indices, everything else is gathered. Loose patches are one cell more, the last, which
    never merges.
    """
    device, finest = x_ND.device, sides[-1]
    patches_SP = patches_of(grid, finest, device)
    finest_grid = (grid[0] // finest, grid[1] // finest)
    rows: list[Tensor] = []
    cells: list[Tensor] = []
    gone: list[Tensor] = []
    gone_row: list[Tensor] = []
    first = 0  # row of the next merged cell
    for taken_R, side in zip(chosen, sides, strict=True):
        if taken_R is None:
            continue
        count = taken_R.shape[0]
        taken_RP = patches_of(grid, side, device).index_select(0, taken_R)
        rows.append(x_ND.index_select(0, taken_RP.flatten()).unflatten(0, (count, side * side)).mean(1))
        cells.append(taken_RP[:, 0])
        inside = (side // finest) ** 2
        gone_RP = taken_R if inside == 1 else patches_of(finest_grid, side // finest, device).index_select(0, taken_R)
        gone.append(gone_RP.flatten())
        gone_row.append(torch.arange(first, first + count, device=device).repeat_interleave(inside))
        first += count
    gone_R = torch.cat(gone)
    new_S, apart_K = compaction_maps(gone_R, patches_SP.shape[0])
    single_K = patches_SP.index_select(0, apart_K).flatten()
    row_S = (first + new_S * finest**2).scatter(0, gone_R, torch.cat(gone_row))
    if patches_SP.numel() < x_ND.shape[0]:
        row_S = torch.cat((row_S, row_S.new_full((1,), first + single_K.shape[0])))
        single_K = torch.cat((single_K, loose_patches(grid, finest, device)))
    row_N = row_S.index_select(0, cell_of(grid, finest, 1, device))
    place_N = place_in_cell(grid, finest, device)
    owner_N = torch.where(row_N < first, row_N, row_N + place_N)
    return Shared(torch.cat((*rows, x_ND.index_select(0, single_K))), torch.cat((*cells, single_K)), owner_N)
