"""The protocol that a token policy fulfils: where it decides, how it trains, and how it becomes graphs of constant shapes.

The full grid is the model's, or the region's own where the model looks at a region of the frame alone (`model/inside.py`).

Shapes: B batch, N tokens of the full grid, K tokens kept (of logits: classes), D width, G decisions, S scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.inside import Inside
from edgeprune.model.schedule import Schedule

# (index of the decision, the scores of its candidates (B, S), larger = keep) -> mask (B, S) of zeros and ones
Select = Callable[[int, Tensor], Tensor]
# The score of what is no candidate any more, such as a token that has left: under any real one; no infinity, which a
# quantile would not interpolate; a power of two, which bf16 holds exactly.
EXCLUDED_SCORE = -(2.0**13)


@dataclass(frozen=True)
class Shape:
    """What a policy must know of the model it belongs to. `grid`: (Gh, Gw) of its own input size; crops have another.
    `extra_tokens`: rows that a graph has beside those of the grid's tokens; policies never see them."""

    width: int
    depth: int
    grid: tuple[int, int]
    classes: int
    extra_tokens: int = 0


@dataclass(frozen=True)
class View:
    """What a policy may look at beside the tokens.

    Attributes:
        images_B3HW: normalised as the stem takes them.
        grid: of their tokens: the region's own where there is one.
        labels_BHW: in training alone, for policies that learn from them; `ignore_index` marks pixels without one.
        progress: the share of the sparse phase that is done, for policies that change on the way; 1 in any other phase.
        image_grid: of the images themselves, where a region leaves some of their patches out; None: it is `grid`.
    """

    images_B3HW: Tensor
    grid: tuple[int, int]
    labels_BHW: Tensor | None = None
    ignore_index: int = 255
    progress: float = 1.0
    image_grid: tuple[int, int] | None = None

    @property
    def whole_grid(self) -> tuple[int, int]:
        """Patches of the images, inside a region and outside."""
        return self.image_grid or self.grid

    @property
    def patch(self) -> int:
        """Pixels of a patch's side."""
        return self.images_B3HW.shape[-1] // self.whole_grid[1]

    def images_of_patches(self, patch: int) -> Tensor:
        """The images at a size at which their patches have so many pixels."""
        if patch == self.patch:
            return self.images_B3HW
        size = (self.whole_grid[0] * patch, self.whole_grid[1] * patch)
        return F.interpolate(self.images_B3HW, size, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Bucket:
    """A whole schedule: one constant for each decision of the policy. Constant in the graph that is made of it.

    Attributes:
        for_budgets: smaller than those that frames ask for: a frame gets it from a budget alone.
    """

    name: str
    counts: tuple[int, ...]
    for_budgets: bool = False


@dataclass
class Masked:
    """What the training form gives.

    Attributes:
        x_BND: tokens of the full grid.
        keep_GBN: of each decision, ones for the tokens that the blocks after it process (one of each merged group).
        loss: the policy's own.
        frozen_BNK: logits of tokens that left early, on the token grid; None where the method has no exit.
        open_BN: ones for the tokens whose logits are the head's; given with `frozen_BNK`.
        group_GBN: of each decision of a merging method, the group that each token belongs to, by any number; for pictures.
    """

    x_BND: Tensor
    keep_GBN: list[Tensor]
    loss: Tensor
    frozen_BNK: Tensor | None = None
    open_BN: Tensor | None = None
    group_GBN: list[Tensor] | None = None


@dataclass
class Gathered:
    """What the inference form gives for one frame.

    Attributes:
        x_ND: tokens of the full grid.
        selected_GK: what each decision chose that had a choice, as its TopK names them: cells of the grid that stay, or groups
            that merge.
        frozen_NK, open_N: see `Masked`.
    """

    x_ND: Tensor
    selected_GK: list[Tensor] = field(default_factory=list)
    frozen_NK: Tensor | None = None
    open_N: Tensor | None = None


class TokenPolicy(nn.Module):
    """Base of all policies, and itself the dense one: no decision, every token through every block.

    A method decides four things: its `schedule` (before which blocks, and how many tokens remain), its scores, its training
    form `masked`, and its inference form `gathered`.
    """

    # why no graph of constant shapes exists; None: it does
    not_exportable: str | None = None
    # whether the blocks of the training form are given the grid's tokens first, in their order, and not merged groups
    keeps_grid = True
    # whether it scores tokens by the magnitudes of a block's values, which have to stay as they are
    reads_values = False
    # whether its own choice is the method when it is evaluated too, and the best tokens of a count would be another one
    chooses_alone = False
    # why it has no form that looks at a region of the frame alone; None: it has
    not_in_region: str | None = None

    def __init__(self, shape: Shape, schedule: Schedule | None = None):
        super().__init__()
        self.shape = shape
        schedule = schedule or Schedule(shape.depth, shape.grid)
        self.schedule = replace(schedule, extra_rows=schedule.extra_rows + shape.extra_tokens)

    @property
    def cell_side(self) -> int:
        """Patches of the side of the cells that it needs whole in a region; they divide the grid."""
        return 1

    @property
    def image_part(self) -> nn.Module | None:
        """What looks at the image alone, and can learn before the network does; None: there is no such part."""
        return None

    def image_loss(self, view: View) -> Tensor:
        """What is wrong with `image_part`'s answer, as a scalar, by the view's labels. For policies that have one."""
        raise NotImplementedError("this policy looks at no image")

    def restrict(self, inside: Inside) -> None:
        """From here on the full grid is the region's own. Tables by token are cut to it.

        Raises:
            InputError: the policy has no such form.
        """
        if self.not_in_region:
            raise InputError(f"policy: no form that looks at a region alone: {self.not_in_region}")
        self.shape = replace(self.shape, grid=inside.grid)
        self.schedule = self.schedule.on(inside.grid)

    @property
    def returning(self) -> Sequence[int]:
        """The decisions after which tokens come back: each lets them skip a block, and the next may take them again."""
        return ()

    @property
    def tokens(self) -> int:
        """Tokens of the full grid."""
        return self.schedule.tokens

    @property
    def gated(self) -> tuple[int, ...]:
        """The block that each decision precedes."""
        return self.schedule.gated

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """Keep scores (..., N) of decision number `gate`; larger means keep. For policies that decide from tokens alone."""
        raise IndexError(f"this policy has no gate {gate}")

    def trunk(self, blocks: Sequence[nn.Module], x_ND: Tensor, view: View) -> tuple[Tensor, Tensor | None]:
        """One frame up to the first decision: the trunk's blocks, then the scores that the decision is made from.

        Args:
            blocks: the trunk's.
            x_ND: embedded tokens.
            view: of the one frame (batch of 1).

        Returns:
            tokens (N, D), scores (S,): in the policy's own layout; None for the dense policy.
        """
        for block in blocks:
            x_ND = block(x_ND)
        return x_ND, self.scores(0, x_ND) if self.gated else None

    def required_tokens(self, scores_S: Tensor, thresholds: Sequence[float]) -> Tensor:
        """How many tokens a frame asks for after the decision `schedule.chosen_by`: an INT32 scalar that the trunk's graph
        gives.

        Args:
            scores_S: the trunk's.
            thresholds: of all decisions; those made from the trunk's scores matter.
        """
        return (scores_S > thresholds[self.schedule.chosen_by]).sum(dtype=torch.int32)

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, view: View, select: Select | None = None) -> Masked:
        """The training form: constant shapes for any selection, decisions differentiable where the method asks for it.

        Args:
            blocks: of the whole network.
            x_BND: embedded tokens.
            view: of the images that they come from.
            select: None: the policy's own choice, sampled in training, deterministic in evaluation.
        """
        for block in blocks:
            x_BND = block(x_BND)
        return Masked(x_BND, [], x_BND.new_zeros(()))

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """The inference form of one frame: the tail's blocks, each on a constant count of tokens.

        Args:
            blocks: those after the trunk.
            x_ND: tokens of the full grid after the trunk.
            counts: of a bucket, such as `schedule.round_up` gives.
            scores_S: what `trunk` has already computed.
        """
        for block in blocks:
            x_ND = block(x_ND)
        return Gathered(x_ND)
