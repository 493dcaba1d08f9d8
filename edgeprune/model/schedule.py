"""Where a token policy decides, and how many tokens its decisions leave.

Shapes: G decisions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Schedule:
    """The decisions of a policy on one grid, in the order in which they are made, and what counts of tokens they can have.

    A decision precedes a block; the blocks before the first one are the trunk. It has a count in each bucket: the tokens that
    remain after it, and that the blocks up to the next decision process. This one can have any counts.

    Attributes:
        depth: blocks of the network.
        grid: (Gh, Gw) tokens of the full grid.
        gated: the block that each decision precedes; two decisions before the same block are two entries.
        target_shares: the share of tokens that remain after each decision, on average over frames.
        chosen_by: the decision whose count is known after the trunk, and picks the bucket of a frame.
        merging: so many decisions, the first ones, choose groups that stay apart instead of tokens that stay. A graph's TopK
            takes the groups that merge.
        extra_rows: rows that a graph has beside the tokens that a decision leaves, such as one that stands for all others,
            and the class token.
        least: the fewest tokens that the policy was trained with, as a share of the target's; None: the target's.
    """

    depth: int
    grid: tuple[int, int]
    gated: tuple[int, ...] = ()
    target_shares: tuple[float, ...] = ()
    chosen_by: int = 0
    merging: int = 0
    extra_rows: int = 0
    least: float | None = None

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def trunk_depth(self) -> int:
        return self.gated[0] if self.gated else self.depth

    def on(self, grid: tuple[int, int]) -> "Schedule":
        """The schedule of an image of another size, such as a crop."""
        return replace(self, grid=grid)

    # -------------------------------------------------------------------------------- decisions and blocks

    def decided(self, block: int) -> int:
        """How many decisions are made before a block runs, those of earlier blocks included."""
        return sum(at <= block for at in self.gated)

    def decisions_at(self, block: int) -> range:
        """The decisions that precede a block, and no earlier one."""
        return range(self.decided(block - 1), self.decided(block))

    def makes_rows(self, decision: int) -> bool:
        """Whether a graph has rows for the tokens that a decision leaves. Groups of several decisions before one block merge
        at once: only the last of these has."""
        following = decision + 1
        return following >= self.merging or self.gated[following] != self.gated[decision]

    # -------------------------------------------------------------------------------- counts of a bucket

    def round_up(self, counts: Sequence[int]) -> tuple[int, ...]:
        """The smallest counts that the method can have, none under those asked for: a method that never takes a token back
        has counts that never rise; merging four to one leaves a count congruent to the grid's modulo three."""
        return tuple(counts)

    @property
    def target_counts(self) -> tuple[int, ...]:
        """The target's shares as counts of this grid, at least one each, rounded up to what the method can have."""
        return self.counts_at(1.0)

    def counts_at(self, scale: float) -> tuple[int, ...]:
        """The target's shares times `scale` as counts of this grid, as `target_counts`."""
        return self.round_up([max(1, round(share * scale * self.tokens)) for share in self.target_shares])

    def block_counts(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Tokens that each block of the network processes at these counts: those that the last decision left."""
        remain = (self.tokens, *counts)
        return tuple(remain[self.decided(block)] for block in range(self.depth))

    def token_layers(self, counts: Sequence[int]) -> int:
        """Tokens processed, summed over all blocks."""
        return sum(self.block_counts(counts))

    def relative_token_layers(self, shares_G: Sequence[float]) -> float:
        """Token layers as a share of the dense model's, when these shares of the tokens remain after each decision."""
        remain = (1.0, *shares_G)
        return sum(remain[self.decided(block)] for block in range(self.depth)) / self.depth

    # -------------------------------------------------------------------------------- candidates of a selection

    def merges_at(self, decision: int) -> bool:
        """Whether the candidates of a decision are groups that merge or stay apart."""
        return decision < self.merging

    def candidate_grid(self, decision: int) -> tuple[int, int] | None:
        """Rows and columns that the candidates of a decision lie on; None: they are groups of tokens from anywhere."""
        return None if self.merges_at(decision) else self.grid

    def candidates(self, counts: Sequence[int]) -> list[int]:
        """How many candidates each decision chooses at these counts: tokens that stay, or groups that stay apart."""
        return list(counts)

    @property
    def target_candidates(self) -> list[int]:
        """How many candidates each decision chooses at the target."""
        return self.candidates(self.target_counts)

    @property
    def candidate_shares(self) -> tuple[float, ...]:
        """The share of its candidates (all scores that `Select` sees) that each decision chooses at the target."""
        return self.target_shares
