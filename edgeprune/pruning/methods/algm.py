"""ALGM: first windows merge, then pairs wherever they are (Norouzi et al., "ALGM: Adaptive Local-then-Global Token Merging
for Efficient Semantic Segmentation with Plain Vision Transformers", CVPR 2024).

Where the paper merges between attention and MLP of its first and fifth block, this merges behind these blocks, as `tome`
does and for the same reasons: the windows' features have been through the MLP too. Thresholds are taken image by image.
A merged token counts as one in the attention after it, as in the released code, which hands sizes to its attention and
leaves them unused there; `proportional` adds the log of its size, as ToMe does.

Shapes: B batch, N tokens of the full grid, W windows of 2x2 cells, M tokens there, K those that remain, R those that merge,
A sources, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.base.reading import Strict
from edgeprune.model.policy import EXCLUDED_SCORE, Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.model.schedule import Schedule
from edgeprune.pruning.cells import count_cells, patches_of
from edgeprune.pruning.merging import Groups, MergedTokens, choose_pairs, merge_pairs, partners
from edgeprune.pruning.methods.tome import falling_by_half, pair_share, sources_apart
from edgeprune.pruning.selection import select_top
from edgeprune.pruning.token_index import compaction_maps

WINDOW = 2  # cells, of a window's side


class ALGMOptions(Strict):
    """Settings of the `algm` policy; blocks and `tau` are the paper's for a ViT-Small of 12 blocks."""

    windows_after: int = Field(1, ge=1, description="blocks before windows of 2x2 merge")
    pairs_after: int = Field(5, ge=2, description="blocks before pairs merge")
    tau: float = Field(
        0.88, ge=-1, le=1, description="in training: mean cosine over which a window merges; .94 base, .95 large"
    )
    keep: tuple[float, float] = Field(
        (0.7, 0.5), description="share of the tokens that remain after either merge; calibration finds the thresholds"
    )
    proportional: bool = Field(
        False, description="a merged token counts in attention as often as it has cells (ToMe's proportional attention)"
    )


@dataclass(frozen=True)
class WindowSchedule(Schedule):
    """Windows that merge, then pairs: a window takes three tokens away, pairs at most half of the rest. Candidates are
    windows, then sources, that stay apart; each other source merges into the token most similar to it."""

    @property
    def windows(self) -> int:
        return count_cells(self.grid, WINDOW)

    def round_up(self, counts: Sequence[int]) -> tuple[int, ...]:
        merged = min(self.windows, (self.tokens - min(self.tokens, max(counts))) // 3)
        first = self.tokens - 3 * merged
        return first, falling_by_half(counts[1:], first)[0]

    def candidates(self, counts: Sequence[int]) -> list[int]:
        return [self.windows - (self.tokens - counts[0]) // 3, sources_apart(counts[0], counts[1])]

    @property
    def candidate_shares(self) -> tuple[float, ...]:
        """Windows that stay apart, of all; sources that do, of half the grid."""
        windows, pairs = self.target_shares
        merged = (1 - windows) * self.tokens / 3
        return max(0.0, 1 - merged / self.windows), pair_share(windows, pairs)


class ALGM(TokenPolicy):
    """Trained as the paper says: every image merges what its thresholds say (the released code takes the smallest number of
    the batch, so that an answer depends on its batch mates). A bucket merges constant numbers, the most similar first."""

    keeps_grid = False

    def __init__(self, shape: Shape, options: ALGMOptions):
        first, second = gated = (options.windows_after, options.pairs_after)
        if not first < second < shape.depth:
            raise InputError(
                f"policy: windows_after={first}, pairs_after={second}: expected in this order and below the model's "
                f"{shape.depth} blocks"
            )
        windows, pairs = options.keep
        if not (0.25 <= windows <= 1 and windows / 2 <= pairs <= windows):
            raise InputError(
                f"policy: keep={[windows, pairs]}: windows leave 0.25 to 1 of the tokens, pairs at least half of these"
            )
        super().__init__(shape, WindowSchedule(shape.depth, shape.grid, gated, options.keep, merging=2))
        self.options = options

    @property
    def cell_side(self) -> int:
        """A window's."""
        return WINDOW

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        """Scores: of each window."""
        for block in blocks:
            x_ND = block(x_ND)
        return x_ND, -window_cosines(x_ND, patches_of(self.shape.grid, WINDOW, x_ND.device))

    def required_tokens(self, scores_S: Tensor, thresholds: Sequence[float]) -> Tensor:
        """Three tokens less for each window that is not over the threshold."""
        apart = (scores_S > thresholds[0]).sum(dtype=torch.int32)
        return apart * 3 + (self.tokens - 3 * count_cells(self.shape.grid, WINDOW))

    def _adaptive(self, gate: int, scores_BS: Tensor) -> Tensor:
        """Merges windows over `tau`, and pairs over the mean + standard deviation / number of the block, of this image's
        sources (the paper does not say of which similarities)."""
        if gate == 0:
            return (scores_BS >= -self.options.tau).to(scores_BS.dtype)
        there_BS = scores_BS > EXCLUDED_SCORE
        count_B1 = there_BS.sum(-1, keepdim=True)
        mean_B1 = scores_BS.masked_fill(~there_BS, 0).sum(-1, keepdim=True) / count_B1
        gaps_BS = (scores_BS - mean_B1).masked_fill(~there_BS, 0)
        deviation_B1 = (gaps_BS.square().sum(-1, keepdim=True) / count_B1).sqrt()
        return (scores_BS >= mean_B1 - deviation_B1 / self.options.pairs_after).to(scores_BS.dtype)

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """Merges for real, image by image (`Groups`). Candidates are windows, then sources; their scores are cosines,
        negated. Without `select`: adaptive in training, constant counts in evaluation."""
        if select is None and self.training:
            select = self._adaptive
        select = select or select_top(self.schedule.on(view.grid).target_candidates)
        groups = Groups.of_single(x_BND)
        keeps: list[Tensor] = []
        owners: list[Tensor] = []
        for index, block in enumerate(blocks):
            for decision in self.schedule.decisions_at(index):
                with torch.no_grad():  # a cosine decides, and learns nothing
                    if decision == 0:
                        into_BM = choose_windows(groups.x_BMD, patches_of(view.grid, WINDOW, x_BND.device), select)
                    else:
                        into_BM = choose_pairs(decision, groups.x_BMD, groups, select)
                groups = groups.merge(into_BM)
                keeps.append(groups.alive_BN.to(x_BND.dtype))
                owners.append(groups.owner_BN)
            groups.x_BMD = block(groups.x_BMD, groups.keys_BM, groups.bias_BM if self.options.proportional else None)
        return Masked(groups.unmerge(), keeps, x_BND.new_zeros(()), group_GBN=owners)

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """TopK -> merge, twice; where nothing merges, neither."""
        selected: list[Tensor] = []
        tokens = MergedTokens(x_ND)
        for index, block in enumerate(blocks, self.schedule.trunk_depth):
            there = tokens.x_MD.shape[0]
            if index == self.gated[0] and counts[0] < there:
                selected.append(scores_S.topk((there - counts[0]) // 3, largest=False, sorted=False).indices)
                tokens = merge_windows(x_ND, selected[-1], patches_of(self.shape.grid, WINDOW, x_ND.device))
            elif index == self.gated[1] and counts[1] < there:
                best_A, match_A = partners(tokens.x_MD)
                selected.append(best_A.topk(there - counts[1], sorted=False).indices)
                tokens = merge_pairs(tokens, selected[-1], match_A)
            tokens.x_MD = block(tokens.x_MD, None, tokens.bias_M if self.options.proportional else None)
        return Gathered(tokens.unmerge(), selected)


# ------------------------------------------------------------------------------------------------ windows


def window_cosines(x_ND: Tensor, cells_W4: Tensor) -> Tensor:
    """The mean cosine of a window's six pairs (..., W): of unit vectors, (||sum||^2 - 4) / 12."""
    unit_ND = F.normalize(x_ND.float(), dim=-1)
    sum_WD = unit_ND.index_select(-2, cells_W4.flatten()).unflatten(-2, cells_W4.shape).sum(-2)
    return (sum_WD.square().sum(-1) - 4) / 12


def choose_windows(x_BND: Tensor, cells_W4: Tensor, select: Select) -> Tensor:
    """The cell that each cell merges into (B, N) after `select` has seen the windows: the first one of its window."""
    keep_BW = select(0, -window_cosines(x_BND, cells_W4)) > 0.5
    into_BW4 = torch.where(keep_BW[..., None], cells_W4, cells_W4[:, :1])
    own_BN = torch.arange(x_BND.shape[1], device=x_BND.device).repeat(x_BND.shape[0], 1)
    return own_BN.scatter(1, cells_W4.flatten().expand(len(own_BN), -1), into_BW4.flatten(1))


def merge_windows(x_ND: Tensor, taken_R: Tensor, cells_W4: Tensor) -> MergedTokens:
    """`taken_R`: windows that become one token each, in any order.

    All windows' means are computed, which is cheap and constant, and rows of tokens and means are gathered.
    """
    tokens, device = x_ND.shape[0], x_ND.device
    first_R = cells_W4[:, 0].index_select(0, taken_R)
    gone_R3 = cells_W4[:, 1:].index_select(0, taken_R)
    new_N, old_K = compaction_maps(gone_R3.flatten(), tokens)
    mean_WD = x_ND.index_select(0, cells_W4.flatten()).unflatten(0, cells_W4.shape).mean(1)
    row_N = torch.arange(tokens, device=device).scatter(0, first_R, tokens + taken_R)
    row_K = row_N.index_select(0, old_K)
    x_KD = torch.cat((x_ND, mean_WD)).index_select(0, row_K)
    size_K = torch.where(row_K < tokens, 1.0, 4.0).to(x_ND.dtype)
    into_R3 = new_N.index_select(0, first_R)[:, None].expand(-1, 3)
    return MergedTokens(x_KD, size_K, new_N.scatter(0, gone_R3.flatten(), into_R3.flatten()))
