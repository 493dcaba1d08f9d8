"""The protocol that a token policy fulfils: what it decides, how it trains, and how it becomes graphs of constant shapes.

Shapes: B batch, N tokens of the full grid, K tokens kept (of logits: classes), D width, G decisions, S scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# (index of the gate, its scores (B, N), larger = keep) -> keep mask (B, N) of zeros and ones
Select = Callable[[int, Tensor], Tensor]
# The score of what is no candidate any more, such as a token that has left: under any real one; no infinity, which a
# quantile would not interpolate; a power of two, which bf16 holds exactly.
GONE = -(2.0**13)


@dataclass(frozen=True)
class Shape:
    """What a policy must know of the model it belongs to. `grid`: (Gh, Gw) of its own input size; crops have another."""

    width: int
    depth: int
    grid: tuple[int, int]
    classes: int

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class View:
    """What a policy may look at beside the tokens.

    Attributes:
        images_B3HW: normalised as the stem takes them.
        grid: of these images.
        labels_BHW: in training alone, for policies that learn from them; `ignore_index` marks pixels without one.
        progress: the share of the sparse phase that is done, for policies that change on the way; 1 in any other phase.
    """

    images_B3HW: Tensor
    grid: tuple[int, int]
    labels_BHW: Tensor | None = None
    ignore_index: int = 255
    progress: float = 1.0


@dataclass(frozen=True)
class Bucket:
    """A whole schedule: one constant for each decision of the policy. Constant in the graph that is made of it."""

    name: str
    counts: tuple[int, ...]


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
    """What the inference form gives for one frame: the same as `Masked`, without batch and training."""

    x_ND: Tensor
    frozen_NK: Tensor | None = None
    open_N: Tensor | None = None


class TokenPolicy(nn.Module):
    """Base of all policies, and itself the dense one: no decision, every token through every block.

    `gated` are the indices of the blocks that a decision precedes, one entry for each decision (two decisions before the
    same block are two entries). The blocks before the first of them are the trunk. A decision has a count in each bucket:
    the tokens that remain after it, and that the blocks up to the next decision process.
    """

    # why no graph of constant shapes exists; None: it does
    not_exportable: str | None = None
    # the decision whose count is known after the trunk, and picks the bucket of a frame
    chosen_by = 0
    # whether candidates are groups, and a graph's TopK takes those that merge instead of the tokens that stay
    merges = False
    # rows that a graph has beside the tokens that a decision leaves, such as one that stands for all others
    extra_rows = 0
    # whether gates select alike by design: their equal selections are then one node in a graph
    repeats = False

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.gated: tuple[int, ...] = ()
        # options that were left open, as the policy has set them for its model: a checkpoint has them written out
        self.chosen: dict[str, Any] = {}
        # what each selection of the last `gathered` took (indices as its TopK gives them): for parity and for pictures
        self.kept_GK: list[Tensor] = []

    @property
    def tokens(self) -> int:
        """Tokens of the full grid."""
        return self.shape.tokens

    @property
    def trunk_depth(self) -> int:
        return self.gated[0] if self.gated else self.shape.depth

    @property
    def target_keep(self) -> tuple[float, ...]:
        """The share of tokens that remain after each decision, on average over frames."""
        return ()

    @property
    def chosen_shares(self) -> tuple[float, ...]:
        """The share of its candidates (`Select`'s scores) that each decision chooses at the target, for calibration. The
        candidates of most methods are tokens; those of merging methods are groups."""
        return self.target_keep

    def target_counts(self, tokens: int) -> list[int]:
        """The same as counts of a grid of `tokens`, at least one each; of the model's own grid, feasible ones."""
        counts = [max(1, round(share * tokens)) for share in self.target_keep]
        return list(self.feasible(counts)) if tokens == self.tokens else counts

    def feasible(self, counts: Sequence[int]) -> tuple[int, ...]:
        """The smallest counts that the method can have, none under those asked for: a method that never takes a token
        back has counts that never rise; merging four to one leaves a count congruent to the grid's modulo three."""
        return tuple(counts)

    def block_counts(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Tokens that each block of the network processes in a bucket of these counts: those that the last decision left."""
        before = (self.tokens, *counts)
        return tuple(before[sum(gate <= index for gate in self.gated)] for index in range(self.shape.depth))

    def token_layers(self, counts: Sequence[int]) -> int:
        """Tokens processed, summed over all blocks."""
        return sum(self.block_counts(counts))

    def work_share(self, shares_G: Sequence[float]) -> float:
        """The same as a share of the dense model's, when these shares of the tokens remain after each decision."""
        before = (1.0, *shares_G)
        return (
            sum(before[sum(gate <= index for gate in self.gated)] for index in range(self.shape.depth))
            / self.shape.depth
        )

    def candidates(self, counts: Sequence[int]) -> list[int]:
        """How many candidates each decision chooses in a bucket of these counts: tokens that stay; of merging methods the
        groups that stay apart."""
        return list(counts)

    def select_top(self, counts: Sequence[int]) -> Select:
        """The selection that the graph of a bucket makes."""
        return select_top(self.candidates(counts))

    def select_random(self, counts: Sequence[int], generator: torch.Generator) -> Select:
        """As many, drawn blindly of what is offered: the control of every claim about a policy."""
        return select_random(self.candidates(counts), generator)

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """Keep scores (..., N) of gate number `gate`; larger means keep. For policies that decide from tokens alone."""
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

    def need(self, scores_S: Tensor, threshold: float) -> Tensor:
        """How many tokens a frame asks for after the decision `chosen_by`: an INT32 scalar that the trunk's graph gives."""
        return (scores_S > threshold).sum(dtype=torch.int32)

    def need_by(self, scores_S: Tensor, thresholds: Sequence[float]) -> Tensor:
        """The same from the thresholds of all decisions, for methods that make several from the trunk's scores."""
        return self.need(scores_S, thresholds[self.chosen_by])

    def merges_at(self, gate: int) -> bool:
        """`merges` of one decision, for methods that merge at some."""
        return self.merges

    def masked(
        self, blocks: Sequence[nn.Module], x_BND: Tensor, select: Select | None = None, view: View | None = None
    ) -> Masked:
        """The training form: constant shapes for any selection, decisions differentiable where the method asks for it.

        `select` None: the policy's own choice, sampled in training, deterministic in evaluation.
        """
        for block in blocks:
            x_BND = block(x_BND)
        return Masked(x_BND, [], x_BND.new_zeros(()))

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_S: Tensor) -> Gathered:
        """The inference form of one frame: the tail's blocks, each on a constant count of tokens.

        Args:
            blocks: those after the trunk.
            x_ND: tokens of the full grid after the trunk.
            counts: of a bucket, feasible.
            scores_S: what `trunk` has already computed.
        """
        for block in blocks:
            x_ND = block(x_ND)
        return Gathered(x_ND)


def select_top(counts: Sequence[int]) -> Select:
    """Keeps the `counts[gate]` best tokens of every image: the selection that a bucket's graph makes."""

    def select(gate: int, scores_BN: Tensor) -> Tensor:
        top_BK = scores_BN.topk(counts[gate], dim=-1).indices
        return torch.zeros_like(scores_BN).scatter_(-1, top_BK, 1.0)

    return select


def select_over(thresholds: Sequence[float]) -> Select:
    """Keeps what lies over each gate's calibrated threshold: the dynamic rate, without buckets."""

    def select(gate: int, scores_BN: Tensor) -> Tensor:
        return (scores_BN > thresholds[gate]).to(scores_BN.dtype)

    return select


def select_random(counts: Sequence[int], generator: torch.Generator) -> Select:
    """Keeps as many tokens as `select_top`, drawn blindly of those that are candidates."""

    def select(gate: int, scores_BN: Tensor) -> Tensor:
        drawn_BN = torch.rand(scores_BN.shape, generator=generator).to(scores_BN.device)
        return select_top(counts)(gate, drawn_BN.masked_fill(scores_BN <= GONE, GONE))

    return select


def select_none(gate: int, scores_BN: Tensor) -> Tensor:
    """Bypasses the gated blocks for every token: what they are worth at all."""
    return torch.zeros_like(scores_BN)


def select_all(gate: int, scores_BN: Tensor) -> Tensor:
    """Runs every gated block on every token: equals the dense model."""
    return torch.ones_like(scores_BN)
