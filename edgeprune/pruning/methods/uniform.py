"""Uniform selection at the same counts: every second, third, fourth token, whatever the frame shows. The control beside
`random`: it too is blind, but leaves no hole in the frame.

Shapes: B batch, N tokens of the full grid, K tokens kept, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeprune.model.policy import GONE, Select, Shape, TokenPolicy, View, select_top
from edgeprune.pruning.methods.random import Random
from edgeprune.pruning.methods.svit import SViTOptions


class Uniform(Random):
    """SViT's schedule and preservation; the best K of one constant table are spread evenly over the grid for every K, and
    the same at every gate: the deeper blocks see a coarser grid. Training sees the selection that inference makes."""

    scores_N: Tensor
    repeats = True

    def __init__(self, shape: Shape, options: SViTOptions):
        super().__init__(shape, options)
        del self.scores_GN
        self.register_buffer("scores_N", even_scores(shape.grid))

    def scores(self, gate: int, x_ND: Tensor) -> Tensor:
        """The constant table (..., N), whatever the tokens hold."""
        return self.scores_N.expand(x_ND.shape[:-1])

    def _scores(self, gate: int, x_BND: Tensor, view: View | None) -> Tensor:
        if view is None or view.grid == self.shape.grid:
            return self.scores(gate, x_BND)
        return even_scores(view.grid).to(x_BND.device).expand(x_BND.shape[:-1])

    def _sample(self, gate: int, scores_BN: Tensor, progress: float = 1.0) -> Tensor:
        """The best tokens at the target."""
        return self.select_top(self.target_counts(scores_BN.shape[1]))(gate, scores_BN)


def even_scores(grid: tuple[int, int]) -> Tensor:
    """A score (N,) for each cell, all different, whose best K lie evenly over the grid for any K.

    The fractional part of row / g + column / g^2, g the plastic number: the lattice of Roberts' R2 sequence, of which any
    interval of values is spread evenly. Ranks instead of the values themselves, which float32 would round to ties.
    """
    plastic = 1.32471795724474602596
    rows_H1 = torch.arange(grid[0], dtype=torch.float64)[:, None]
    columns_W = torch.arange(grid[1], dtype=torch.float64)
    values_N = ((rows_H1 / plastic + columns_W / plastic**2) % 1.0).flatten()
    return (values_N.argsort().argsort() + 0.5).float() / values_N.numel()


def select_uniform(policy: TokenPolicy, counts: Sequence[int]) -> Select:
    """As many tokens as `policy.select_top` keeps, spread evenly over the grid: of those that are offered the best of the
    constant table. Where groups merge the policy's own choice is made: they have no places to spread."""
    top = policy.select_top(counts)
    best, table_N = select_top(policy.candidates(counts)), even_scores(policy.shape.grid)

    def select(gate: int, scores_BN: Tensor) -> Tensor:
        if policy.merges_at(gate):
            return top(gate, scores_BN)
        table_BN = table_N.to(scores_BN.device).expand_as(scores_BN)
        return best(gate, table_BN.masked_fill(scores_BN <= GONE, GONE))

    return select
