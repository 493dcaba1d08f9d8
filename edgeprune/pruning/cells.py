"""Cells: what methods that merge neighbours compute with indices alone.

A cell of side s holds s x s patches. Cells lie on a raster from the upper left; on a grid whose sides they don't divide,
the patches past the last whole cell are in none.

Shapes: N tokens of the full grid, S cells of one side, P = side^2 patches of one.
"""

import torch
from torch import Tensor


def count_cells(grid: tuple[int, int], side: int) -> int:
    """How many whole cells a grid (Gh, Gw) has."""
    return (grid[0] // side) * (grid[1] // side)


def patches_of(grid: tuple[int, int], side: int, device: torch.device) -> Tensor:
    """The patches of each cell (S, P), the upper left one first: a constant of the graph."""
    rows, columns = grid[0] // side, grid[1] // side
    number_HW = torch.arange(grid[0] * grid[1], device=device).view(grid)[: rows * side, : columns * side]
    return number_HW.reshape(rows, side, columns, side).transpose(1, 2).reshape(rows * columns, side * side)


def cell_of(grid: tuple[int, int], large: int, small: int, device: torch.device) -> Tensor:
    """The cell of side `large` that each cell of side `small` lies in; one past the last where it lies in none."""
    ratio, rows, columns = large // small, grid[0] // large, grid[1] // large
    row_H1 = torch.arange(grid[0] // small, device=device)[:, None] // ratio
    column_W = torch.arange(grid[1] // small, device=device) // ratio
    inside_HW = (row_H1 < rows) & (column_W < columns)
    return torch.where(inside_HW, row_H1 * columns + column_W, rows * columns).flatten()


def place_in_cell(grid: tuple[int, int], side: int, device: torch.device) -> Tensor:
    """Which of its cell's patches each patch is (N,), counted as `patches_of` does."""
    row_H1 = torch.arange(grid[0], device=device)[:, None] % side
    return (row_H1 * side + torch.arange(grid[1], device=device) % side).flatten()
