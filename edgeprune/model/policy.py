"""The protocol that a token policy fulfils: what it decides, how it trains, and how it becomes graphs of constant shapes.

Shapes: B batch, N tokens of the full grid, K tokens kept, D width, G gated blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# (index of the gate, its scores (B, N), larger = keep) -> keep mask (B, N) of zeros and ones
Select = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Bucket:
    """A whole keep schedule: how many tokens each gated block processes. Constant in the graph that is made of it."""

    name: str
    counts: tuple[int, ...]

    def token_layers(self, depth: int, tokens: int) -> int:
        """Tokens processed, summed over all blocks: the ungated blocks see the full grid."""
        return (depth - len(self.counts)) * tokens + sum(self.counts)


@dataclass
class Masked:
    """What the training form gives: tokens of the full grid (B, N, D), the keep mask of each gate, the policy's loss."""

    x_BND: Tensor
    keep_GBN: list[Tensor]
    loss: Tensor


class TokenPolicy(nn.Module):
    """Base of all policies, and itself the dense one: no gate, every token through every block.

    `gated` are the indices of the blocks that a decision precedes. The blocks before the first of them are the trunk.
    """

    def __init__(self, width: int, depth: int, tokens: int):
        super().__init__()
        self.width, self.depth, self.tokens = width, depth, tokens
        self.gated: tuple[int, ...] = ()
        # share of the sparse phase that is done; the training loop sets it, and 1 in later phases
        self.progress = 0.0
        # what the last `gathered` selected, gate by gate: for parity and for pictures
        self.kept_GK: list[Tensor] = []

    @property
    def trunk_depth(self) -> int:
        return self.gated[0] if self.gated else self.depth

    @property
    def target_keep(self) -> tuple[float, ...]:
        """The share of tokens that each gate should keep, on average over frames."""
        return ()

    def target_counts(self, tokens: int) -> list[int]:
        """The same as counts of a grid of `tokens`, at least one each."""
        return [max(1, round(share * tokens)) for share in self.target_keep]

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """Keep scores (..., N) of gate number `gate`; larger means keep."""
        raise IndexError(f"the dense policy has no gate {gate}")

    def masked(self, blocks: Sequence[nn.Module], x_BND: Tensor, select: Select | None = None) -> Masked:
        """The training form: every token computed, decisions as masks.

        `select` None: the policy's own choice, sampled in training, deterministic in evaluation.
        """
        for block in blocks:
            x_BND = block(x_BND)
        return Masked(x_BND, [], x_BND.new_zeros(()))

    def gathered(self, blocks: Sequence[nn.Module], x_ND: Tensor, counts: Sequence[int], scores_N: Tensor) -> Tensor:
        """The inference form of one frame: the tail's blocks, each on a constant count of gathered tokens.

        Args:
            blocks: those from the first gated one on.
            x_ND: tokens of the full grid after the trunk.
            counts: tokens for each gated block.
            scores_N: the first gate's scores, which the trunk has already computed.
        """
        for block in blocks:
            x_ND = block(x_ND)
        return x_ND


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
    """Keeps as many tokens as `select_top`, drawn blindly: the control of every claim about a policy."""

    def select(gate: int, scores_BN: Tensor) -> Tensor:
        drawn_BN = torch.rand(scores_BN.shape, generator=generator).to(scores_BN.device)
        return select_top(counts)(gate, drawn_BN)

    return select


def select_none(gate: int, scores_BN: Tensor) -> Tensor:
    """Bypasses the gated blocks for every token: what they are worth at all."""
    return torch.zeros_like(scores_BN)


def select_all(gate: int, scores_BN: Tensor) -> Tensor:
    """Runs every gated block on every token: equals the dense model."""
    return torch.ones_like(scores_BN)
