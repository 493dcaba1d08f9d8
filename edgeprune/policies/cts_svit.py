"""CTS before the network and SViT inside it: cells of 2x2 patches that hold one class share a token, and gates skip blocks for
the tokens that remain. What either saves, the other does not: merging pays from the first block on, gates need not wait for
four patches to agree.

Shapes: B batch, N tokens of the full grid, S cells, M tokens that remain after merging, K tokens kept, D width, G gates.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeprune.errors import InputError
from edgeprune.model.policy import GONE, Gathered, Masked, Select, Shape, View, select_top
from edgeprune.policies.cells import count_cells
from edgeprune.policies.superpatches import (
    Purity,
    Sharing,
    cells_apart,
    choose_cells,
    feasible_merges,
    merge_cells,
    purity_loss,
    tokens_left,
)
from edgeprune.policies.svit import SViT, SViTOptions, put_back

SIDES = (2,)


class CTSSViTOptions(SViTOptions):
    """Settings of the `cts-svit` policy: SViT's, whose ratios are of the tokens that merging leaves."""

    merged: float = Field(
        0.56, ge=0.25, le=1, description="share of the tokens that remains when cells have merged; the paper's least"
    )


class CTSSViT(SViT):
    """A decision on the cells before the first block, as `cts` makes it; then a gate before each block from `first` on, as
    `svit` has them, over the tokens that remain. A merged token is kept or skipped as one; skipped ones keep their features
    and may come back. The bucket is chosen by the merging: what a frame needs is known before the first block."""

    def __init__(self, shape: Shape, options: CTSSViTOptions):
        if shape.grid[0] % 2 or shape.grid[1] % 2:
            raise InputError(f"policy: cts-svit needs an even grid of tokens, this is {shape.grid[0]}x{shape.grid[1]}")
        super().__init__(shape, options)
        if not self.comes_back or options.gate != "svit":
            raise InputError("policy: cts-svit has no form with another gate, nor without preservation or reactivation")
        self.merged = options.merged
        self.gated = (0, *self.gated)
        self.purity = Purity(SIDES)

    @property
    def target_keep(self) -> tuple[float, ...]:
        return (self.merged, *(self.merged * share for share in self.ratios))

    @property
    def chosen_shares(self) -> tuple[float, ...]:
        """Cells that stay apart, of all; tokens that are kept, of the grid."""
        [apart, *_] = self.candidates(self.target_counts(self.tokens))
        return (apart / count_cells(self.shape.grid, SIDES[0]), *self.target_keep[1:])

    def feasible(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Whole cells merge, and leave as many tokens as any gate is to keep."""
        return self._feasible(counts, self.shape.grid)

    def _feasible(self, counts: Sequence[int], grid: tuple[int, int]) -> tuple[int, ...]:
        [left] = feasible_merges([max(counts)], grid[0] * grid[1], grid, SIDES)[1]
        return (left, *(min(count, left) for count in counts[1:]))

    def candidates(self, counts: Sequence[int]) -> list[int]:
        """Cells that stay apart, then tokens that are kept."""
        return self._candidates(counts, self.shape.grid)

    def counts_of(self, candidates: Sequence[int]) -> tuple[int, ...]:
        apart, *kept = candidates
        side = SIDES[0]
        return (count_cells(self.shape.grid, side) + (side * side - 1) * apart, *kept)

    def _candidates(self, counts: Sequence[int], grid: tuple[int, int]) -> list[int]:
        merges, _ = feasible_merges(counts[:1], grid[0] * grid[1], grid, SIDES)
        return [*cells_apart(merges, grid, SIDES), *counts[1:]]

    def _own_select(self, grid: tuple[int, int]) -> Select:
        """What is chosen without `select`: the target's cells always; of the tokens the target's best, sampled in training."""
        counts = self._feasible([max(1, round(share * grid[0] * grid[1])) for share in self.target_keep], grid)
        top = select_top(self._candidates(counts, grid))

        def select(gate: int, scores_BS: Tensor) -> Tensor:
            return self._sample(gate, scores_BS) if self.training and gate else top(gate, scores_BS)

        return select

    # -------------------------------------------------------------------------------------------- trunk

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        """Scores of the cells, larger = stay apart."""
        return x_ND, -self.purity(view.images_B3HW)[0][0]

    def need(self, scores_S: Tensor, threshold: float) -> Tensor:
        return tokens_left([scores_S], SIDES, self.shape.grid, [threshold])

    def merges_at(self, gate: int) -> bool:
        return gate == 0

    # -------------------------------------------------------------------------------------------- both forms

    def masked(
        self, blocks: Sequence[nn.Module], x_BND: Tensor, select: Select | None = None, view: View | None = None
    ) -> Masked:
        """All patches are computed; those of a merged cell hold the same token, of which one alone is a key, and share its
        decisions: so they stay equal."""
        assert view is not None  # the segmenter gives it; a CNN needs its image
        full = 0
        if select is None:
            select = self._own_select(view.grid)
            full = min(round(self.options.full * x_BND.shape[0]), x_BND.shape[0] - 1) if self.training else 0
        logits_BS = self.purity(view.images_B3HW)[0]
        sharing = Sharing.of_single(x_BND, view.grid)
        sharing.merge(_keep_first(select(0, sharing.offered(logits_BS, SIDES[0])), full), SIDES[0])
        x_BND, alive_BN = sharing.x_BND, sharing.alive_BN
        there_BN = alive_BN.to(x_BND.dtype)
        keeps, shares = [there_BN], []
        for index, block in enumerate(blocks):
            gate = index - self.options.first
            if gate < 0:
                x_BND = block(x_BND) if alive_BN.all() else block(x_BND, alive_BN)
                continue
            scores_BN = self.scores(gate, x_BND)
            keep_BN = select(gate + 1, torch.where(alive_BN, scores_BN, torch.full_like(scores_BN, GONE)))
            keep_BN = sharing.shared(_keep_first(keep_BN, full))
            keys_BN = (keep_BN.detach() > 0.5) & alive_BN
            # a row without any key would be a softmax over nothing; its result is discarded by the mix anyway
            keys_BN = keys_BN | (alive_BN & ~keys_BN.any(dim=-1, keepdim=True))
            x_BND = keep_BN[..., None] * block(x_BND, keys_BN) + (1 - keep_BN[..., None]) * x_BND
            keeps.append(keep_BN * there_BN)
            shares.append((keep_BN * there_BN / there_BN.mean(-1, keepdim=True))[full:])
        loss = self.loss(shares) + purity_loss([logits_BS], SIDES, view)
        return Masked(x_BND, keeps, loss, group_GBN=[sharing.owner_BN] * len(keeps))

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """Merge; then TopK -> gather -> block -> back among the merged tokens, per gate; then every patch takes its token."""
        self.kept_GK.clear()
        merges, _ = feasible_merges(counts[:1], self.tokens, self.shape.grid, SIDES)
        x_MD, owner_N, row_N = x_ND, None, None
        if any(merges):
            chosen = choose_cells([scores_S], SIDES, self.shape.grid, merges)
            self.kept_GK.extend(taken_R for taken_R in chosen if taken_R is not None)
            shared = merge_cells(x_ND, chosen, SIDES, self.shape.grid)
            x_MD, owner_N = shared.x_MD, shared.owner_N
            left = x_MD.shape[0]
            # TopK names cells of the grid, so that the order in which an engine has its rows does not matter
            nowhere_N = torch.full((self.tokens,), left, device=x_ND.device)
            row_N = nowhere_N.scatter(0, shared.cells_M, torch.arange(left, device=x_ND.device))
        for index, block in enumerate(blocks):
            gate = index - self.options.first
            if gate < 0 or counts[gate + 1] == x_MD.shape[0]:
                x_MD = block(x_MD)
                continue
            scores_N = self.scores(gate, x_MD)
            if row_N is not None:
                scores_N = torch.cat((scores_N, scores_N.new_full((1,), GONE))).index_select(0, row_N)
            kept_K = scores_N.topk(counts[gate + 1], sorted=False).indices
            self.kept_GK.append(kept_K)
            x_MD = put_back(x_MD, block, kept_K if row_N is None else row_N.index_select(0, kept_K))
        return Gathered(x_MD if owner_N is None else x_MD.index_select(0, owner_N))


def _keep_first(keep_BN: Tensor, full: int) -> Tensor:
    """Everything stays in the first `full` images of a batch, whose order is random."""
    return torch.cat((torch.ones_like(keep_BN[:full]), keep_BN[full:])) if full else keep_BN
