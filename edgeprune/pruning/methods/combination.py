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

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeprune.model.inside import Inside
from edgeprune.model.policy import Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.pruning.cells import count_cells
from edgeprune.pruning.exits import Canvas, EarlyExitState, ExitHead, exit_loss, exit_score, stay_scores
from edgeprune.pruning.masking import offered, with_few_tokens, with_whole_images
from edgeprune.pruning.methods.decisions import CombinedSchedule, Decision, ExitOptions, Kind, Parts, schedule_parts
from edgeprune.pruning.methods.svit import Gates, SViTOptions
from edgeprune.pruning.sampling import Shares
from edgeprune.pruning.schedules import spread
from edgeprune.pruning.selection import select_top
from edgeprune.pruning.superpatches import (
    PATCH,
    Purity,
    Shared,
    Sharing,
    choose_cells,
    merge_cells,
    purity_loss,
    tokens_left,
)
from edgeprune.pruning.token_index import run_on
from edgeprune.pruning.walk import Walk, masked_block

logger = logging.getLogger(__name__)


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

    schedule: CombinedSchedule

    def __init__(self, shape: Shape, parts: Parts):
        super().__init__(shape, schedule_parts(shape, parts))
        self.decisions, self.sides = self.schedule.decisions, self.schedule.sides
        self.gate_options, self.exit_options = parts.gates or SViTOptions(), parts.exits or ExitOptions(exits=[])
        self.unsure = exit_score(self.exit_options.confidence)
        gates, exits = (sum(each.kind is kind for each in self.decisions) for kind in (Kind.GATE, Kind.EXIT))
        self.gates = Gates(shape.width, self.gate_options, spread(self.gate_options.keep, gates), shape.grid)
        self.purity = Purity(self.sides) if self.sides else None
        self.heads = nn.ModuleList(ExitHead(shape) for _ in range(exits))

    @property
    def cell_side(self) -> int:
        """That of the largest superpatches that cover the grid; where none do, of the smallest."""
        covering = [side for side in self.sides if not any(size % side for size in self.shape.grid)]
        return max(covering, default=min(self.sides, default=1))

    @property
    def returning(self) -> Sequence[int]:
        return [decision.place for decision in self.decisions if decision.kind is Kind.GATE]

    def restrict(self, inside: Inside) -> None:
        """The CNN sees the whole image; of its cells those inside count. There are none larger than the region's own: smaller
        ones merge in their place."""
        super().restrict(inside)
        self.gates.restrict(inside.grid)
        for side in self.sides:
            if side > inside.side:
                logger.info(
                    f"policy: {side}x{side} patches do not cover the frame: in a region no superpatch is as large"
                )
            cells_S = inside.numbers(side) if side <= inside.side else torch.zeros(0, dtype=torch.int64)
            self.register_buffer(f"cells_{side}", cells_S, persistent=False)

    def _inside(self, block: int) -> list[Decision]:
        """The exit and the gate before a block."""
        found = (self.decisions[place] for place in self.schedule.decisions_at(block))
        return [decision for decision in found if decision.kind is not Kind.MERGE]

    # -------------------------------------------------------------------------------------------- trunk

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        """Scores: of the cells of each side, the largest side first; without superpatches of the first decision's tokens."""
        for block in blocks:
            x_ND = block(x_ND)
        if self.purity is not None:
            logits = [logits_BS for logits_BS in self._purities(self.purity, view) if logits_BS.shape[1]]
            return x_ND, -torch.cat(logits, dim=1)[0]
        if self.decisions[0].kind is Kind.EXIT:
            return x_ND, stay_scores(self.heads[0](x_ND), self.exit_options.context)
        return x_ND, self.gates.with_turn(0, self.gates[0](x_ND))

    @property
    def image_part(self) -> Purity | None:
        return self.purity

    def image_loss(self, view: View) -> Tensor:
        assert self.purity is not None
        return purity_loss(self._purities(self.purity, view), self.sides, view)

    def _purities(self, purity: Purity, view: View) -> list[Tensor]:
        """The logits (B, S) of each side's cells."""
        logits = purity(view.images_of_patches(PATCH))
        if view.image_grid is None:
            return logits
        cells = (self.get_buffer(f"cells_{side}") for side in self.sides)
        return [logits_BS.index_select(1, cells_S) for logits_BS, cells_S in zip(logits, cells, strict=True)]

    def by_side(self, scores_S: Tensor) -> list[Tensor]:
        """The trunk's scores of superpatches, each side's apart."""
        cells = [count_cells(self.shape.grid, side) for side in self.sides]
        none = sum(count == 0 for count in cells)  # the largest ones, in a region
        if len(cells) - none == 1:
            return [*[scores_S[:0]] * none, scores_S]
        return [*[scores_S[:0]] * none, *scores_S.split(cells[none:])]

    def required_tokens(self, scores_S: Tensor, thresholds: Sequence[float]) -> Tensor:
        """Every side has a threshold of its own."""
        if not self.sides:
            return super().required_tokens(scores_S, thresholds)
        return tokens_left(self.by_side(scores_S), self.sides, self.shape.grid, thresholds[: len(self.sides)])

    # -------------------------------------------------------------------------------------------- training form

    def _own_select(self, view: View) -> Select:
        """What is chosen without `select`: in training by an exit's confidence, and of a gate's as it samples."""
        top = select_top(self.schedule.on(view.grid).target_candidates)

        def select(place: int, scores_BS: Tensor) -> Tensor:
            kind = self.decisions[place].kind
            if self.training and kind is Kind.EXIT:
                return (scores_BS > self.unsure).to(scores_BS.dtype)
            if self.training and kind is Kind.GATE:
                return self.gate_options.sample(scores_BS, view.progress)
            return top(place, scores_BS)

        return select

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """All tokens are computed. Patches of a merged cell hold the same token, of which one alone is a key, and share its
        decisions; so all of them stay equal. Tokens that left, or that a gate let go, hold their features and are no keys.

        Of a training batch the first `full` images keep everything, with `least` the last ones fewer than the target.
        """
        sampled = select is None and self.training
        shares = self.gate_options.shares(x_BND.shape[0]) if sampled else Shares()
        select = select or self._own_select(view)
        if shares.few:
            select = with_few_tokens(select, shares.few, self.gate_options.select_few(self.schedule.on(view.grid)))
        select = with_whole_images(select, shares.whole)
        walk = self._merge(x_BND, view, select, shares.sampled(x_BND.shape[0]))
        x_BND = walk.sharing.x_BND
        for index, block in enumerate(blocks):
            kept_BN: Tensor | None = None
            for decision in self._inside(index):
                if decision.kind is Kind.EXIT:
                    self._exit(walk, decision, x_BND, view)
                else:
                    kept_BN = self._gate(walk, decision, x_BND)
                walk.groups.append(walk.sharing.owner_BN)
            x_BND = masked_block(block, x_BND, walk, kept_BN) if walk.keeps else block(x_BND)
        if len(self.gates):
            walk.loss = walk.loss + shares.weight * self.gates.loss(walk.ratios)
        masked = Masked(x_BND, walk.keeps, walk.loss)
        if walk.canvas is not None:
            masked.frozen_BNK, masked.open_BN = walk.canvas.frozen_BNK, walk.canvas.open_BN.to(x_BND.dtype)
        if self.sides:
            masked.group_GBN = walk.groups
        return masked

    def _merge(self, x_BND: Tensor, view: View, select: Select, sampled: slice) -> Walk:
        """Superpatches, the largest side first."""
        sharing = Sharing.of_single(x_BND, view.grid)
        walk = Walk(sharing, sharing.alive_BN, select, sampled, x_BND.new_zeros((), dtype=torch.float32))
        if self.purity is not None:
            logits = self._purities(self.purity, view)
            walk.loss = walk.loss + purity_loss(logits, self.sides, view)
            for place, (side, logits_BS) in enumerate(zip(self.sides, logits, strict=True)):
                sharing.merge(select(place, sharing.offered(logits_BS, side)), side)
                walk.keeps.append(sharing.alive_BN.to(x_BND.dtype))
                walk.groups.append(sharing.owner_BN.clone())
        walk.alive_BN = sharing.alive_BN
        return walk

    def _exit(self, walk: Walk, decision: Decision, x_BND: Tensor, view: View) -> None:
        """An auxiliary head lets tokens go that it is sure of."""
        shared, there_BN = walk.sharing.shared, walk.sharing.shared(walk.alive_BN)
        logits_BNK = self.heads[decision.number](x_BND)
        walk.loss = walk.loss + exit_loss(logits_BNK, there_BN, view)
        scores_BN = stay_scores(logits_BNK.detach(), self.exit_options.context, walk.alive_BN)
        stays_BN = (walk.select(decision.place, scores_BN) > 0.5) & walk.alive_BN
        walk.canvas = walk.canvas or Canvas(torch.zeros_like(logits_BNK), torch.ones_like(walk.alive_BN))
        walk.canvas.exit(logits_BNK, there_BN, shared(stays_BN), shared(scores_BN) > self.unsure)
        walk.alive_BN = stays_BN
        walk.keeps.append(stays_BN.to(x_BND.dtype))

    def _gate(self, walk: Walk, decision: Decision, x_BND: Tensor) -> Tensor:
        """The mask (B, N) of a gate, equal within a merged group."""
        alive_BN = walk.alive_BN
        scores_BN = self.gates.with_turn(decision.number, self.gates[decision.number](x_BND), walk.sharing.grid)
        scores_BN = offered(scores_BN, alive_BN)
        kept_BN = walk.sharing.shared(walk.select(decision.place, scores_BN) * alive_BN)
        walk.keeps.append(kept_BN * alive_BN)
        there_B1 = alive_BN.to(kept_BN.dtype).mean(-1, keepdim=True)
        walk.ratios.append((walk.keeps[-1] / there_B1.clamp_min(1 / alive_BN.shape[1]))[walk.sampled])
        return kept_BN

    # -------------------------------------------------------------------------------------------- inference form

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """Merge; then TopK -> gather at each exit, and TopK -> gather -> block -> back among the others at each gate; then
        every patch takes its token. Where no cell merges and no token goes, the blocks alone."""
        selected: list[Tensor] = []
        shared = self._share(x_ND, counts, scores_S, selected)
        x_KD = shared.x_MD
        state = EarlyExitState(x_KD, self.tokens, shared.cells_M, shared.owner_N)
        for index, block in enumerate(blocks, self.schedule.trunk_depth):
            rows_K: Tensor | None = None
            for decision in self._inside(index):
                count, from_trunk = counts[decision.place], decision.place == 0
                if count == x_KD.shape[0]:
                    continue
                if decision.kind is Kind.EXIT:
                    logits_KK = self.heads[decision.number](x_KD)
                    scores_K = scores_S if from_trunk else stay_scores(logits_KK, self.exit_options.context)
                    x_KD = state.exit(x_KD, logits_KK, scores_K, count, self.unsure)
                    selected.append(state.index.cells_K)
                else:
                    scores_N = scores_S if from_trunk else self._gate_scores(decision.number, x_KD, state)
                    kept_K, rows_K = state.best(scores_N, count)
                    selected.append(kept_K)
            x_KD = block(x_KD) if rows_K is None else run_on(rows_K, block, x_KD)
        x_ND, frozen_NK, open_N = state.finish(x_KD)
        return Gathered(x_ND, selected, frozen_NK, open_N)

    def _gate_scores(self, gate: int, x_KD: Tensor, state: EarlyExitState) -> Tensor:
        """Those of the rows at their cells (N,), each with its turn."""
        return self.gates.with_turn(gate, state.index.on_grid(self.gates[gate](x_KD)))

    def _share(self, x_ND: Tensor, counts: Sequence[int], scores_S: Tensor, selected: list[Tensor]) -> Shared:
        """Superpatches of constant numbers; adds the cells that merge to `selected`."""
        merges = self.schedule.merges(counts)
        if not any(merges):
            return Shared(x_ND)
        chosen = choose_cells(self.by_side(scores_S), self.sides, self.shape.grid, merges)
        selected.extend(taken_R for taken_R in chosen if taken_R is not None)
        return merge_cells(x_ND, chosen, self.sides, self.shape.grid)
