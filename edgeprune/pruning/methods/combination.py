"""Superpatches before the network, gates inside it, exits between its blocks: three ways to spend less on a token, and any of
them together by configuration. STEP, CTS, DToP and CTS with SViT's gates are settings of this one policy.

What one saves, the others do not. Merging pays from the first block on, for patches that look alike; a gate skips one block
for one token, whatever its neighbours are, and may take it back; an exit ends a token whose class is settled.

Where the papers resize a superpatch to one patch in pixels, this averages the embedded tokens of its cell: the stem may be
convolutional, and has then seen every pixel in its place. The mean of their position embeddings is that of the cell's
middle, as a resized one is.

Shapes: B batch, N tokens of the full grid, S cells of one side, M tokens that remain after merging, K tokens that remain (of
logits: classes), D width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.policy import GONE, Gathered, Masked, Select, Shape, TokenPolicy, View, select_top
from edgeprune.pruning.cells import count_cells
from edgeprune.pruning.exits import Canvas, ExitHead, Leaving, exit_loss, exit_score, stay_scores
from edgeprune.pruning.methods.decisions import (
    CombinedOptions,
    Decision,
    ExitOptions,
    Kind,
    exit_places,
    falling_sides,
    gated_blocks,
    in_order,
)
from edgeprune.pruning.methods.svit import Gate, SViTOptions, keep_first, put_back, ratio_loss, spread
from edgeprune.pruning.superpatches import (
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


class Combination(TokenPolicy):
    """A decision for each side of superpatches, the largest first, all before the first block; then exits and gates in the
    order of the blocks they precede, an exit before a gate.

    The candidates of a side are its cells outside merged larger ones, scored by how mixed they look; those that are not
    chosen merge. The CNN learns from labels alone, the transformer from whatever merges: the quotas of the target, in
    training too, as in CTS. Without labels its loss is 0.

    An exit's candidates are the tokens that are there, see `stay_scores`. In training a token stays while its confidence is
    below `confidence`, or for context; a bucket keeps the best scores. Those logits that a token had when it left are its
    answer. A token counts for the head (is open) while each exit kept it and found it unsure or of the context; one that
    is sure and stays to fill the bucket has left: it goes on as context for others. An exit that lets no token of the
    image go is none: the full bucket equals the dense model.

    A gate's candidates are the tokens that are there. One that it lets go skips a block, keeps its features, and may be
    taken by the next gate, as in SViT; merged ones are kept or skipped as one.

    The bucket is chosen by what is known after the trunk: the superpatches, or the first exit or gate.
    """

    def __init__(
        self,
        shape: Shape,
        levels: Sequence[tuple[int, float]] = (),
        gates: SViTOptions | None = None,
        exits: ExitOptions | None = None,
    ):
        super().__init__(shape)
        self.gate_options, self.exit_options = gates, exits or ExitOptions(exits=[])
        self.sides, self.areas = falling_sides(shape.grid, levels)
        places = exit_places(shape.depth, self.exit_options.exits)
        # `exits`, where they were left open
        self.chosen_exits: dict[str, Any] = {"exits": list(places)} if self.exit_options.exits is None else {}
        gated = gated_blocks(shape.depth, gates)
        self.decisions = in_order(self.sides, places, gated)
        if not self.decisions:
            raise InputError(
                "policy: no exits, no gates and no superpatches: nothing is left to decide; give one of `levels`, `gates` "
                "and `exits`"
            )
        self.gated = tuple(decision.block for decision in self.decisions)
        # all superpatches are known after the trunk, and of the others the first where it follows the trunk
        self.chosen_by = max(0, len(self.sides) - 1)
        self.unsure = exit_score(self.exit_options.confidence)
        self.ratios = spread(gates.keep, len(gated)) if gates else ()
        self.gates = nn.ModuleList(Gate(shape.width) for _ in gated)
        self.purity = Purity(self.sides) if self.sides else None
        self.heads = nn.ModuleList(ExitHead(shape) for _ in places)

    def _inside(self, block: int) -> list[Decision]:
        """The exit and the gate before a block."""
        return [each for each in self.decisions if each.block == block and each.kind is not Kind.MERGE]

    @property
    def target_keep(self) -> tuple[float, ...]:
        keep, shares = self.exit_options.keep, []
        merged = there = 1.0
        for decision in self.decisions:
            if decision.kind is Kind.MERGE:
                there = merged = merged - self.areas[decision.number] * (1 - self.sides[decision.number] ** -2)
                shares.append(merged)
            elif decision.kind is Kind.EXIT:
                there = merged * keep[decision.number * len(keep) // len(self.heads)]
                shares.append(there)
            else:
                shares.append(there * self.ratios[decision.number])
        return tuple(shares)

    @property
    def chosen_shares(self) -> tuple[float, ...]:
        """Cells that stay apart, of all of their side; tokens that remain, or are kept, of the grid."""
        grid = self.shape.grid
        apart = self._candidates(self.target_counts(self.tokens), grid)[: len(self.sides)]
        cells = (count / count_cells(grid, side) for count, side in zip(apart, self.sides, strict=True))
        return (*cells, *self.target_keep[len(self.sides) :])

    def feasible(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Counts of whole superpatches, which never rise from one exit to the next; no gate keeps more than are there."""
        return self._feasible(counts, self.shape.grid)

    def _feasible(self, counts: Sequence[int], grid: tuple[int, int]) -> tuple[int, ...]:
        _, found = feasible_merges(counts, grid[0] * grid[1], grid, self.sides)
        there = found[-1] if found else grid[0] * grid[1]
        for decision in self.decisions[len(self.sides) :]:
            wanted = counts[decision.place]
            if decision.kind is Kind.EXIT:
                there = wanted = min(max(counts[decision.place :]), there)
            found.append(min(wanted, there))
        return tuple(found)

    def _candidates(self, counts: Sequence[int], grid: tuple[int, int]) -> list[int]:
        """How many candidates each decision chooses: cells that stay apart, then tokens that stay, or are kept."""
        merges, _ = feasible_merges(counts, grid[0] * grid[1], grid, self.sides)
        return [*cells_apart(merges, grid, self.sides), *counts[len(self.sides) :]]

    def candidates(self, counts: Sequence[int]) -> list[int]:
        """The least pure cells stay apart, the least sure tokens stay, the best are kept."""
        return self._candidates(counts, self.shape.grid)

    def _own_select(self, grid: tuple[int, int], progress: float) -> Select:
        """What is chosen without `select`: in training by an exit's confidence, and of a gate's as it samples."""
        counts = self._feasible([max(1, round(share * grid[0] * grid[1])) for share in self.target_keep], grid)
        top = select_top(self._candidates(counts, grid))

        def select(place: int, scores_BS: Tensor) -> Tensor:
            kind = self.decisions[place].kind
            if self.training and kind is Kind.EXIT:
                return (scores_BS > self.unsure).to(scores_BS.dtype)
            if self.training and kind is Kind.GATE:
                assert self.gate_options is not None
                return self.gate_options.sample(scores_BS, progress)
            return top(place, scores_BS)

        return select

    # -------------------------------------------------------------------------------------------- trunk

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        """Scores: of the cells of each side, the largest side first; without superpatches of the first decision's tokens."""
        for block in blocks:
            x_ND = block(x_ND)
        if self.purity is not None:
            return x_ND, -torch.cat(self.purity(view.images_B3HW), dim=1)[0]
        if self.decisions[0].kind is Kind.EXIT:
            return x_ND, stay_scores(self.heads[0](x_ND), self.exit_options.context)
        return x_ND, self.gates[0](x_ND)

    def by_side(self, scores_S: Tensor) -> list[Tensor]:
        """The trunk's scores of superpatches, each side's apart."""
        if len(self.sides) == 1:
            return [scores_S]
        return list(scores_S.split([count_cells(self.shape.grid, side) for side in self.sides]))

    def need(self, scores_S: Tensor, threshold: float) -> Tensor:
        """With one threshold for all sides."""
        return self.need_by(scores_S, [threshold] * (self.chosen_by + 1))

    def need_by(self, scores_S: Tensor, thresholds: Sequence[float]) -> Tensor:
        if not self.sides:
            return super().need(scores_S, thresholds[0])
        return tokens_left(self.by_side(scores_S), self.sides, self.shape.grid, thresholds[: len(self.sides)])

    def merges_at(self, gate: int) -> bool:
        return gate < len(self.sides)

    # -------------------------------------------------------------------------------------------- both forms

    def masked(
        self, blocks: Sequence[nn.Module], x_BND: Tensor, select: Select | None = None, view: View | None = None
    ) -> Masked:
        """All tokens are computed. Patches of a merged cell hold the same token, of which one alone is a key, and share its
        decisions; so all of them stay equal. Tokens that left, or that a gate let go, hold their features and are no keys.

        Of a training batch the first `full` images keep everything; its order is random.
        """
        grid = self.shape.grid if view is None else view.grid
        full = 0
        if select is None and self.training and self.gate_options is not None:
            full = self.gate_options.whole_images(x_BND.shape[0])
        select = select or self._own_select(grid, 1.0 if view is None else view.progress)
        loss = x_BND.new_zeros((), dtype=torch.float32)
        keeps: list[Tensor] = []
        groups: list[Tensor] = []
        ratios: list[Tensor] = []
        sharing = Sharing.of_single(x_BND, grid)
        if self.purity is not None:
            assert view is not None  # the segmenter gives it; a CNN needs its image
            logits = self.purity(view.images_B3HW)
            loss = loss + purity_loss(logits, self.sides, view)
            for place, (side, logits_BS) in enumerate(zip(self.sides, logits, strict=True)):
                sharing.merge(keep_first(select(place, sharing.offered(logits_BS, side)), full), side)
                keeps.append(sharing.alive_BN.to(x_BND.dtype))
                groups.append(sharing.owner_BN.clone())
        x_BND, alive_BN = sharing.x_BND, sharing.alive_BN
        canvas: Canvas | None = None
        for index, block in enumerate(blocks):
            kept_BN: Tensor | None = None
            for decision in self._inside(index):
                if decision.kind is Kind.EXIT:
                    logits_BNK = self.heads[decision.number](x_BND)
                    loss = loss + exit_loss(logits_BNK, sharing.shared(alive_BN), view)
                    scores_BN = stay_scores(logits_BNK.detach(), self.exit_options.context, alive_BN)
                    stays_BN = (keep_first(select(decision.place, scores_BN), full) > 0.5) & alive_BN
                    canvas = canvas or Canvas(torch.zeros_like(logits_BNK), torch.ones_like(alive_BN))
                    there_BN = sharing.shared(alive_BN)
                    canvas.exit(logits_BNK, there_BN, sharing.shared(stays_BN), sharing.shared(scores_BN) > self.unsure)
                    alive_BN = stays_BN
                    keeps.append(alive_BN.to(x_BND.dtype))
                else:
                    scores_BN = self.gates[decision.number](x_BND)
                    offered_BN = torch.where(alive_BN, scores_BN, torch.full_like(scores_BN, GONE))
                    kept_BN = sharing.shared(keep_first(select(decision.place, offered_BN), full) * alive_BN)
                    keeps.append(kept_BN * alive_BN)
                    there_B1 = alive_BN.to(kept_BN.dtype).mean(-1, keepdim=True)
                    ratios.append((keeps[-1] / there_B1.clamp_min(1 / alive_BN.shape[1]))[full:])
                groups.append(sharing.owner_BN)
            x_BND = masked_block(block, x_BND, sharing, alive_BN, kept_BN)
        if self.gate_options is not None:
            loss = loss + ratio_loss(ratios, self.ratios, self.gate_options)
        masked = Masked(x_BND, keeps, loss)
        if canvas is not None:
            masked.frozen_BNK, masked.open_BN = canvas.frozen_BNK, canvas.open_BN.to(x_BND.dtype)
        if self.sides:
            masked.group_GBN = groups
        return masked

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """Merge; then TopK -> gather at each exit, and TopK -> gather -> block -> back among the others at each gate; then
        every patch takes its token. Where no cell merges and no token goes, the blocks alone."""
        self.kept_GK.clear()
        shared = self._share(x_ND, counts, scores_S)
        x_KD = x_ND if shared is None else shared.x_MD
        leaving = Leaving(x_KD, None if shared is None else shared.cells_M, self.tokens)
        for index, block in enumerate(blocks, self.trunk_depth):
            rows_K: Tensor | None = None
            for decision in self._inside(index):
                count, from_trunk = counts[decision.place], decision.place == 0
                if count == x_KD.shape[0]:
                    continue
                if decision.kind is Kind.EXIT:
                    logits_KK = self.heads[decision.number](x_KD)
                    scores_K = scores_S if from_trunk else stay_scores(logits_KK, self.exit_options.context)
                    x_KD, kept_K = leaving.exit(x_KD, logits_KK, scores_K, count, self.unsure)
                else:
                    scores_K = scores_S if from_trunk else self.gates[decision.number](x_KD)
                    kept_K, rows_K = leaving.best(scores_K, count)
                self.kept_GK.append(kept_K)
            x_KD = block(x_KD) if rows_K is None else put_back(x_KD, block, rows_K)
        return Gathered(*leaving.finish(x_KD, None if shared is None else shared.owner_N))

    def _share(self, x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Shared | None:
        grid = self.shape.grid
        merges, _ = feasible_merges(counts, self.tokens, grid, self.sides)
        if not any(merges):
            return None
        chosen = choose_cells(self.by_side(scores_S), self.sides, grid, merges)
        self.kept_GK.extend(taken_R for taken_R in chosen if taken_R is not None)
        return merge_cells(x_ND, chosen, self.sides, grid)


def combined(shape: Shape, options: CombinedOptions) -> Combination:
    """The policy `combined`."""
    made = Combination(shape, options.levels, options.gates, options.exits)
    if options.exits is not None and made.chosen_exits:
        made.chosen = {"exits": options.exits.model_dump(mode="json") | made.chosen_exits}
    return made


def masked_block(block: nn.Module, x_BND: Tensor, sharing: Sharing, alive_BN: Tensor, kept_BN: Tensor | None) -> Tensor:
    """A block on the tokens that are there, and that a gate keeps; the others hold their features.

    Args:
        alive_BN: True for the tokens that are there, one of each merged group.
        kept_BN: the gate's mask over the whole grid, equal within a group; None: no gate.
    """
    if kept_BN is None and alive_BN.all():
        return block(x_BND)
    keys_BN = alive_BN if kept_BN is None else (kept_BN.detach() > 0.5) & alive_BN
    # a row without any key would be a softmax over nothing; its result is discarded
    keys_BN = keys_BN | ~keys_BN.any(-1, keepdim=True)
    y_BND = block(x_BND, keys_BN)
    if kept_BN is None:
        return torch.where(sharing.shared(alive_BN)[..., None], y_BND, x_BND)
    return kept_BN[..., None] * y_BND + (1 - kept_BN[..., None]) * x_BND
