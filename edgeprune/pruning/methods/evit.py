"""EViT: the tokens that receive the most attention stay, the others become one (Liang et al., "Not All Patches are What
You Need: Expediting Vision Transformers via Token Reorganizations", ICLR 2022).

Where the paper reorganises tokens between attention and MLP of its fourth, seventh and tenth block, by that block's own
attention, this does it before these blocks, by the attention of the block before: half a block earlier, so that trunk and
counts are of whole blocks (as in `tome`).

Shapes: B batch, N tokens of the full grid, K tokens that remain, M the same and the fused one, D width, G stages.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edgeprune.base.reading import Strict
from edgeprune.model.policy import Gathered, Masked, Select, Shape, TokenPolicy, View
from edgeprune.pruning.masking import offered
from edgeprune.pruning.received import received
from edgeprune.pruning.schedules import FallingSchedule, evenly_spaced
from edgeprune.pruning.selection import select_top
from edgeprune.pruning.token_index import TokenIndex


class EViTOptions(Strict):
    """Settings of the `evit` policy; the defaults are the paper's: 70% of those that remain, at each of three stages."""

    keep: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.7, 0.49, 0.343], min_length=1, description="keep ratios of the stages, as shares of the grid"
    )
    pruned: Literal["preserved", "fused"] = Field(
        "preserved",
        description="what the head gets of a token that left: `preserved`: the features it left with; `fused`: those of "
        "the fused token, which every such cell shares",
    )


class EViT(TokenPolicy):
    """Tokens are ranked by the attention that they received in the block before a stage; a model may have no class token,
    so it is the mean over heads and over the queries that remain.

    The others are fused into one by that attention, x_fused = sum_i a_i x_i (section 3.2), which takes part in the blocks
    after. It is not normalised, as in the paper. At the next stage the fused token goes into the new one with its own
    attention; in the paper it is ranked with the others and may stay beside it, but counts here are of the grid's tokens,
    and one extra row is constant. Where no token leaves nothing is fused.

    The paper classifies. For dense output a cell whose token left shows the features it left with: the fused token knows
    no places, so `fused`, which is what came of the token, blurs all of them into one.
    """

    def __init__(self, shape: Shape, options: EViTOptions):
        stages = evenly_spaced(shape, len(options.keep))
        # the extra row is the fused token
        super().__init__(shape, FallingSchedule(shape.depth, shape.grid, stages, tuple(options.keep), extra_rows=1))
        self.options = options

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """The scores are the attention received in the trunk's last block, (N,)."""
        for block in blocks[:-1]:
            x_ND = block(x_ND)
        received_N = received(blocks[-1], x_ND)
        return blocks[-1](x_ND), received_N

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """Tokens that left are no keys. From the first stage on a fused token follows the grid's, there or not.

        Selection is top-k in training too, as in the paper; there is nothing to learn but the blocks.
        """
        tokens = x_BND.shape[1]
        select = select or select_top(self.schedule.on(view.grid).target_candidates)
        keeps: list[Tensor] = []
        x_BMD, received_BM = x_BND, torch.zeros_like(x_BND[..., 0])
        there_BM = torch.ones_like(received_BM, dtype=torch.bool)
        for index, block in enumerate(blocks):
            for stage in self.schedule.decisions_at(index):
                if not keeps:
                    x_BMD = torch.cat((x_BMD, torch.zeros_like(x_BMD[:, :1])), dim=1)
                    there_BM, received_BM = (
                        torch.cat((part_BM, torch.zeros_like(part_BM[:, :1])), dim=1)
                        for part_BM in (there_BM, received_BM)
                    )
                there_BN = there_BM[:, :-1]
                chosen_BN = select(stage, offered(received_BM[:, :-1], there_BN)) > 0.5
                keeps.append((there_BN & chosen_BN).float())
                x_BMD, there_BM = fuse(x_BMD, there_BM, received_BM, there_BN & chosen_BN)
            keys_BM = there_BM if keeps else None
            if index + 1 in self.gated:
                received_BM = received(block, x_BMD, keys_BM)
            y_BMD = block(x_BMD, keys_BM)
            x_BMD = torch.where(there_BM[..., None], y_BMD, x_BMD) if keeps else y_BMD
        x_BND = x_BMD[:, :tokens]
        if self.options.pruned == "fused":
            x_BND = torch.where(there_BM[:, :tokens, None], x_BND, x_BMD[:, tokens:])
        return Masked(x_BND, keeps, x_BND.new_zeros((), dtype=torch.float32))

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """TopK -> gather and fuse per stage; the fused token is the last row. The full grid is put together at the end."""
        index, now = TokenIndex(x_ND, self.tokens), self.tokens
        # counts of the blocks that precede a stage where tokens leave: only there is attention read
        after = dict(zip(self.gated, counts, strict=False))
        x_MD, received_M = x_ND, scores_S
        for number, block in enumerate(blocks, start=self.schedule.trunk_depth):
            if after.get(number, now) < now:
                now = after[number]
                rows_K = index.leave_but_best(x_MD, received_M[: index.cells_K.shape[0]], now)
                leave_M = torch.ones_like(received_M).scatter(0, rows_K, 0.0)
                x_MD = torch.cat((x_MD.index_select(0, rows_K), (leave_M * received_M)[None] @ x_MD))
            if after.get(number + 1, now) < now:
                received_M = received(block, x_MD)
            x_MD = block(x_MD)
        if self.options.pruned == "fused":
            return Gathered(index.filled(x_MD[:now], x_MD[now:]), index.selected_GK)
        return Gathered(index.preserved(x_MD), index.selected_GK)


def fuse(x_BMD: Tensor, there_BM: Tensor, received_BM: Tensor, keep_BN: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens with the fused one of a stage as their last, and which of them are there.

    Args:
        x_BMD: with the fused token of the stage before, or room for it.
        there_BM: before this stage.
        received_BM: the attention that each received.
        keep_BN: the grid's tokens that stay.
    """
    leave_BM = there_BM & ~torch.cat((keep_BN, torch.zeros_like(keep_BN[:, :1])), dim=1)
    any_B1 = leave_BM[:, :-1].any(dim=-1, keepdim=True)  # the old fused token alone leaves for nothing
    fused_B1D = ((leave_BM * received_BM)[..., None] * x_BMD).sum(dim=1, keepdim=True)
    fused_B1D = torch.where(any_B1[..., None], fused_B1D, x_BMD[:, -1:])
    return torch.cat((x_BMD[:, :-1], fused_B1D), dim=1), torch.cat((keep_BN, any_B1 | there_BM[:, -1:]), dim=1)
