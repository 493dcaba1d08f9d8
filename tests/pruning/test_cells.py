"""Cells on their raster, against loops over patches."""

import pytest
import torch

from edgeprune.pruning.cells import cell_of, count_cells, loose_patches, patches_of, place_in_cell
from tests.pruning.test_cts import cells_by_loops

DEVICE = torch.device("cpu")
GRIDS = [(16, 16), (24, 32), (5, 7), (6, 9), (18, 24), (4, 3)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("side", [2, 4, 8])
def test_cells_lie_on_a_raster_and_the_other_patches_are_loose(grid: tuple[int, int], side: int) -> None:
    cells = cells_by_loops(grid, side)
    tokens = grid[0] * grid[1]
    assert patches_of(grid, side, DEVICE).tolist() == cells and count_cells(grid, side) == len(cells)
    inside = {patch: cell for cell, patches in enumerate(cells) for patch in patches}
    expected = [inside.get(patch, len(cells)) for patch in range(tokens)]
    assert cell_of(grid, side, 1, DEVICE).tolist() == expected
    loose = loose_patches(grid, side, DEVICE).tolist()
    assert sorted(loose) == [patch for patch in range(tokens) if patch not in inside]
    places = [cells[inside[patch]].index(patch) if patch in inside else loose.index(patch) for patch in range(tokens)]
    assert place_in_cell(grid, side, DEVICE).tolist() == places


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("large", "small"), [(4, 2), (8, 2), (16, 4)])
def test_a_cell_lies_whole_in_a_larger_one_or_outside(grid: tuple[int, int], large: int, small: int) -> None:
    larger = cells_by_loops(grid, large)
    around = []
    for patches in cells_by_loops(grid, small):
        touched = [number for number, cell in enumerate(larger) if set(patches) & set(cell)]
        assert all(set(patches) <= set(larger[number]) for number in touched)
        around.append(touched[0] if touched else len(larger))
    assert cell_of(grid, large, small, DEVICE).tolist() == around
