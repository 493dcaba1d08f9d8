"""Turns: a constant pattern beside what gates say of tokens, so that each token gets its share of the gated blocks.

Gates score a token by itself, and the tokens that one gate lets go are by and large those of the next: they miss block after
block. The pattern is spread evenly over the grid, and from gate to gate it moves on by what a gate keeps, as the next to
be served in a queue. Alone it is a selection that looks at nothing (`select_staggered`), the control of every claim about
gates; beside their scores it decides between tokens that they hold for much the same, which the rounding of INT8
would decide else.

Shapes: N tokens of the full grid, G gates.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

Grid = tuple[int, int]


def even_scores(grid: Grid, device: torch.device | None = None) -> Tensor:
    """A score (N,) for each cell, all different, whose best K lie evenly over the grid for any K.

    The fractional part of row / g + column / g^2, g the plastic number: the lattice of Roberts' R2 sequence, of which any
    interval of values is spread evenly. Ranks instead of the values themselves, which float32 would round to ties.
    """
    plastic = 1.32471795724474602596
    rows_H1 = torch.arange(grid[0], dtype=torch.float64, device=device)[:, None]
    columns_W = torch.arange(grid[1], dtype=torch.float64, device=device)
    values_N = ((rows_H1 / plastic + columns_W / plastic**2) % 1.0).flatten()
    return (values_N.argsort().argsort() + 0.5).float() / values_N.numel()


def turns(grid: Grid, shares: Sequence[float], device: torch.device | None = None) -> Tensor:
    """A score (G, N) in 0 to 1 for each gate and cell: at every gate evenly spread, and those that it would take, the best
    share of them, are behind all others at the next one.

    Args:
        shares: of what is there, that each gate keeps.
    """
    moved = list(accumulate(shares[:-1], initial=0.0))
    even_N = even_scores(grid, device)
    return torch.stack([(even_N + shift) % 1.0 for shift in moved])
