"""Cells: what methods that merge neighbours compute with indices alone.

A cell of side s holds s x s patches. Cells lie on a raster from the upper left; on a grid whose sides they don't divide,
the patches past the last whole cell are in none: they are loose. From one corner for all sides, a cell lies whole in a larger
one or outside of it, and there are as many of each side as any raster has; centred rasters of 16 and 8 would cut each other.

Shapes: N tokens of the full grid, S cells of one side, P = side^2 patches of one, E loose patches.
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


def loose_patches(grid: tuple[int, int], side: int, device: torch.device) -> Tensor:
    """The patches (E,) in no cell: those on the right of the cells, row by row, then those below."""
    height, width = grid[0] // side * side, grid[1] // side * side
    number_HW = torch.arange(grid[0] * grid[1], device=device).view(grid)
    return torch.cat((number_HW[:height, width:].flatten(), number_HW[height:].flatten()))


def place_in_cell(grid: tuple[int, int], side: int, device: torch.device) -> Tensor:
    """Which of its cell's patches each patch is (N,), counted as `patches_of` does; a loose one among those of
    `loose_patches`."""
    height, width = grid[0] // side * side, grid[1] // side * side
    row_H1 = torch.arange(grid[0], device=device)[:, None]
    column_W = torch.arange(grid[1], device=device)
    place_HW = row_H1 % side * side + column_W % side
    if (height, width) == grid:
        return place_HW.flatten()
    right_HW = row_H1 * (grid[1] - width) + column_W - width
    below_HW = row_H1 * grid[1] + column_W - height * width
    place_HW = torch.where(column_W < width, place_HW, right_HW)
    return torch.where(row_H1 < height, place_HW, below_HW).flatten()
