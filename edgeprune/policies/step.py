"""STEP: superpatches of several sizes by a CNN that looks at the image (dCTS), then early exit ("STEP: SuperToken and
Early-Pruning for Efficient Semantic Segmentation", Proust et al. 2025; it builds on CTS, Lu et al., CVPR 2023, and on DToP,
Tang et al., ICCV 2023). Its halves alone are the policies `cts` and `dtop`.

Where the papers resize a superpatch to one patch in pixels, this averages the embedded tokens of its cell: the stem may be
convolutional, and has then seen every pixel in its place. The mean of their position embeddings is that of the cell's
middle, as a resized one is.

Shapes: B batch, N tokens of the full grid, S cells of one side, M tokens that remain after merging, D width.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeprune.config import Strict
from edgeprune.errors import InputError
from edgeprune.model.policy import Gathered, Masked, Select, Shape, TokenPolicy, View, select_top
from edgeprune.policies.cells import count_cells
from edgeprune.policies.exits import Canvas, ExitHead, Leaving, exit_loss, exit_score, stay_scores
from edgeprune.policies.superpatches import (
    Purity,
    Shared,
    Sharing,
    cells_apart,
    choose_cells,
    feasible_merges,
    merge_cells,
    purity_loss,
    tokens_left,
)

Share = Annotated[float, Field(gt=0, le=1)]


class ExitOptions(Strict):
    """What policies with exits have to set."""

    exits: list[int] | None = Field(
        None, description="blocks before each exit; by default 6 and 8 of 12, in proportion for other depths"
    )
    keep: list[Share] = Field(
        [0.8, 0.6],
        min_length=1,
        description="share of the tokens there before the first exit that remain after each, spread evenly over the exits",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="probability of its class at which a token leaves; .9 base"
    )
    context: int = Field(5, ge=0, description="most confident tokens of each class that stay all the same")


class STEPOptions(ExitOptions):
    """Settings of the `step` policy. By default superpatches leave 40% of the tokens, as the paper claims, and 40% of these
    leave early; how the paper shares the sizes is not published."""

    levels: list[tuple[Literal[2, 4, 8, 16], Share]] = Field(
        [(16, 0.1), (8, 0.2), (4, 0.2), (2, 0.15)],
        description="side of the superpatches in patches, and the share of the image that merges into them; sides that "
        "don't divide the grid are left out; [] for none",
    )


class STEP(TokenPolicy):
    """A decision for each side of superpatches, the largest first, all before the first block; then one for each exit.

    The candidates of a side are its cells outside merged larger ones, scored by how mixed they look; those that are not
    chosen merge. The CNN learns from labels alone, the transformer from whatever merges: the quotas of the target, in
    training too, as in CTS. Without labels its loss is 0.

    An exit's candidates are tokens, see `stay_scores`. In training a token stays while its confidence is below
    `confidence`, or for context; a bucket keeps the best scores. Those logits that a token had when it left are its
    answer. A token counts for the head (is open) while each exit kept it and found it unsure or of the context; one that
    is sure and stays to fill the bucket has left: it goes on as context for others. An exit that lets no token of the
    image go is none: the full bucket equals the dense model.
    """

    def __init__(self, shape: Shape, options: ExitOptions, levels: Sequence[tuple[int, float]] | None = None):
        """`levels`: instead of the options'."""
        super().__init__(shape)
        if levels is None:
            assert isinstance(options, STEPOptions)
            levels = options.levels
        self.options = options
        self.sides, self.areas = divisors(shape.grid, levels)
        self.exits = exit_places(shape.depth, options.exits)
        if not self.sides and not self.exits:
            raise InputError(
                f"policy: no exits, and the grid {shape.grid[0]}x{shape.grid[1]} holds no superpatches of "
                f"{[side for side, _ in levels]}: nothing is left to decide"
            )
        self.gated = (*(0 for _ in self.sides), *self.exits)
        # all superpatches are known after the trunk, and of the exits the first where it follows the trunk
        self.chosen_by = max(0, len(self.sides) - 1)
        self.unsure = exit_score(options.confidence)
        self.purity = Purity(self.sides) if self.sides else None
        self.heads = nn.ModuleList(ExitHead(shape) for _ in self.exits)

    @property
    def target_keep(self) -> tuple[float, ...]:
        left, shares = 1.0, []
        for side, area in zip(self.sides, self.areas, strict=True):
            left -= area * (1 - side**-2)
            shares.append(left)
        keep, exits = self.options.keep, len(self.exits)
        return (*shares, *(left * keep[index * len(keep) // exits] for index in range(exits)))

    @property
    def chosen_shares(self) -> tuple[float, ...]:
        """Cells that stay apart, of all of their side; tokens that remain."""
        grid = self.shape.grid
        apart = self._candidates(self.target_counts(self.tokens), grid)[: len(self.sides)]
        cells = (count / count_cells(grid, side) for count, side in zip(apart, self.sides, strict=True))
        return (*cells, *self.target_keep[len(self.sides) :])

    def feasible(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Counts that never rise, of whole superpatches."""
        return self._feasible(counts, self.shape.grid)

    def _feasible(self, counts: Sequence[int], grid: tuple[int, int]) -> tuple[int, ...]:
        tokens, levels = grid[0] * grid[1], len(self.sides)
        _, left = feasible_merges(counts, tokens, grid, self.sides)
        for index in range(levels, len(counts)):
            left.append(min(max(counts[index:]), left[-1] if left else tokens))
        return tuple(left)

    def _candidates(self, counts: Sequence[int], grid: tuple[int, int]) -> list[int]:
        """How many candidates each decision chooses: cells that stay apart, then tokens that stay."""
        merges, _ = feasible_merges(counts, grid[0] * grid[1], grid, self.sides)
        return [*cells_apart(merges, grid, self.sides), *counts[len(self.sides) :]]

    def candidates(self, counts: Sequence[int]) -> list[int]:
        """The least pure cells stay apart, the least sure tokens stay."""
        return self._candidates(counts, self.shape.grid)

    def _own_select(self, grid: tuple[int, int]) -> Select:
        """What is chosen without `select`."""
        counts = self._feasible([max(1, round(share * grid[0] * grid[1])) for share in self.target_keep], grid)
        top = select_top(self._candidates(counts, grid))

        def select(gate: int, scores_BS: Tensor) -> Tensor:
            if self.training and gate >= len(self.sides):
                return (scores_BS > self.unsure).to(scores_BS.dtype)
            return top(gate, scores_BS)

        return select

    # -------------------------------------------------------------------------------------------- trunk

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        """Scores: of the cells of each side, the largest side first; without superpatches of the first exit's tokens."""
        for block in blocks:
            x_ND = block(x_ND)
        if self.purity is not None:
            return x_ND, -torch.cat(self.purity(view.images_B3HW), dim=1)[0]
        return x_ND, stay_scores(self.heads[0](x_ND), self.options.context)

    def _by_side(self, scores_S: Tensor) -> list[Tensor]:
        return list(scores_S.split([count_cells(self.shape.grid, side) for side in self.sides]))

    def need(self, scores_S: Tensor, threshold: float) -> Tensor:
        """With one threshold for all sides."""
        return self.need_by(scores_S, [threshold] * (self.chosen_by + 1))

    def need_by(self, scores_S: Tensor, thresholds: Sequence[float]) -> Tensor:
        if not self.sides:
            return super().need(scores_S, thresholds[0])
        of_sides = thresholds[: len(self.sides)]
        return tokens_left(self._by_side(scores_S), self.sides, self.shape.grid, of_sides)

    def merges_at(self, gate: int) -> bool:
        return gate < len(self.sides)

    # -------------------------------------------------------------------------------------------- both forms

    def masked(
        self, blocks: Sequence[nn.Module], x_BND: Tensor, select: Select | None = None, view: View | None = None
    ) -> Masked:
        """All tokens are computed. Patches of a merged cell hold the same token, of which one alone is a key; so all of them
        stay equal. Tokens that left hold their features and are no keys."""
        grid = self.shape.grid if view is None else view.grid
        select = select or self._own_select(grid)
        loss = x_BND.new_zeros((), dtype=torch.float32)
        keeps: list[Tensor] = []
        groups: list[Tensor] = []
        sharing = Sharing.of_single(x_BND, grid)
        if self.purity is not None:
            assert view is not None  # the segmenter gives it; a CNN needs its image
            logits = self.purity(view.images_B3HW)
            loss = loss + purity_loss(logits, self.sides, view)
            for gate, (side, logits_BS) in enumerate(zip(self.sides, logits, strict=True)):
                sharing.merge(select(gate, sharing.offered(logits_BS, side)), side)
                keeps.append(sharing.alive_BN.to(x_BND.dtype))
                groups.append(sharing.owner_BN.clone())
        x_BND, alive_BN = sharing.x_BND, sharing.alive_BN
        canvas: Canvas | None = None
        for index, block in enumerate(blocks):
            if index in self.exits:
                number = self.exits.index(index)
                logits_BNK = self.heads[number](x_BND)
                loss = loss + exit_loss(logits_BNK, sharing.shared(alive_BN), view)
                scores_BN = stay_scores(logits_BNK.detach(), self.options.context, alive_BN)
                keep_BN = (select(len(self.sides) + number, scores_BN) > 0.5) & alive_BN
                if canvas is None:
                    canvas = Canvas(torch.zeros_like(logits_BNK), torch.ones_like(alive_BN))
                there_BN, stays_BN = sharing.shared(alive_BN), sharing.shared(keep_BN)
                canvas.exit(logits_BNK, there_BN, stays_BN, sharing.shared(scores_BN) > self.unsure)
                alive_BN = keep_BN
                keeps.append(alive_BN.to(x_BND.dtype))
                groups.append(sharing.owner_BN)
            if alive_BN.all():
                x_BND = block(x_BND)
                continue
            # a row without any key would be a softmax over nothing; its result is discarded
            keys_BN = alive_BN | ~alive_BN.any(-1, keepdim=True)
            x_BND = torch.where(sharing.shared(alive_BN)[..., None], block(x_BND, keys_BN), x_BND)
        masked = Masked(x_BND, keeps, loss)
        if canvas is not None:
            masked.frozen_BNK, masked.open_BN = canvas.frozen_BNK, canvas.open_BN.to(x_BND.dtype)
        if self.sides:
            masked.group_GBN = groups
        return masked

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """Merge, then TopK -> gather at each exit; where no cell merges and no token goes, the blocks alone."""
        self.kept_GK.clear()
        shared = self._share(x_ND, counts, scores_S)
        x_KD, cell_N = x_ND, None
        if shared is not None:
            x_KD, cell_N = shared.x_MD, shared.cells_M.index_select(0, shared.owner_N)
        leaving = Leaving(x_KD, None if shared is None else shared.cells_M, self.tokens)
        for index, block in enumerate(blocks, self.trunk_depth):
            if index in self.exits:
                number = self.exits.index(index)
                count = counts[len(self.sides) + number]
                if count < x_KD.shape[0]:
                    logits_KK = self.heads[number](x_KD)
                    from_trunk = number == 0 and not self.sides
                    scores_K = scores_S if from_trunk else stay_scores(logits_KK, self.options.context)
                    x_KD, kept_J = leaving.exit(x_KD, logits_KK, scores_K, count, self.unsure)
                    self.kept_GK.append(kept_J)
            x_KD = block(x_KD)
        return Gathered(*leaving.finish(x_KD, cell_N))

    def _share(self, x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Shared | None:
        grid = self.shape.grid
        merges, _ = feasible_merges(counts, self.tokens, grid, self.sides)
        if not any(merges):
            return None
        chosen = choose_cells(self._by_side(scores_S), self.sides, grid, merges)
        self.kept_GK.extend(taken_R for taken_R in chosen if taken_R is not None)
        return merge_cells(x_ND, chosen, self.sides, grid)


def divisors(grid: tuple[int, int], levels: Sequence[tuple[int, float]]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Sides that divide the grid, the largest first, and their shares of the image.

    Raises:
        InputError: a side that is named twice, or shares of more than the image.
    """
    sides = [side for side, _ in levels]
    if len(set(sides)) < len(sides) or sum(area for _, area in levels) > 1 + 1e-6:
        raise InputError(
            f"policy: levels={[list(level) for level in levels]}: each side once, shares of 1 together at most"
        )
    fitting = sorted((level for level in levels if not (grid[0] % level[0] or grid[1] % level[0])), reverse=True)
    return tuple(side for side, _ in fitting), tuple(area for _, area in fitting)


def exit_places(depth: int, exits: Sequence[int] | None) -> tuple[int, ...]:
    """The blocks that exits precede.

    Raises:
        InputError: not between two blocks, or not one after the other.
    """
    if exits is None:
        exits = sorted({max(1, round(depth * share)) for share in (6 / 12, 8 / 12)} - {depth})
    if list(exits) != sorted(set(exits)) or any(not 0 < place < depth for place in exits):
        raise InputError(
            f"policy: exits={list(exits)}: expected to rise, each between two of the model's {depth} blocks"
        )
    return tuple(exits)
