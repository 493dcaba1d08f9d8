"""Old places and new ones by hand: tokens that leave, rows that are replaced, places that are closed up."""

import torch

from edgeprune.pruning.token_index import TokenIndex, compaction_maps, run_on


def test_rows_and_cells_by_hand() -> None:
    """Six cells; 1, 3, 4 remain, then 4 alone. A row past the tokens stands for no cell."""
    x_ND = torch.arange(6.0)[:, None]
    index = TokenIndex(x_ND, 6)
    rows_K = index.leave_but_best(x_ND, torch.tensor([0.0, 5, 1, 6, 7, 2]), 3)
    assert set(rows_K.tolist()) == {1, 3, 4} == set(index.cells_K.tolist())
    x_MD = torch.cat((x_ND[rows_K] + 10, torch.tensor([[99.0]])))
    assert index.preserved(x_MD)[:, 0].tolist() == [0, 11, 2, 13, 14, 5]
    scores_K = torch.tensor([float(cell == 4) for cell in index.cells_K.tolist()])
    rows_J = index.leave_but_best(x_MD, scores_K, 1)
    assert index.cells_K.tolist() == [4] and x_MD[rows_J].tolist() == [[14.0]]
    assert index.preserved(x_MD[rows_J] + 10)[:, 0].tolist() == [0, 11, 2, 13, 24, 5]
    assert index.filled(torch.tensor([[7.0]]), torch.tensor([[-1.0]]))[:, 0].tolist() == [-1, -1, -1, -1, 7, -1]


def test_rows_that_stand_at_given_cells() -> None:
    """Of six cells the first row is cell 4, the second cell 1; no row stands for the others."""
    index = TokenIndex(torch.zeros(2, 1), 6, torch.tensor([4, 1]))
    assert index.row_N.tolist() == [2, 1, 2, 2, 0, 2]
    assert index.on_grid(torch.tensor([7.0, 8.0]))[[1, 4]].tolist() == [8, 7]
    assert index.on_grid(torch.tensor([7.0, 8.0])).topk(2).indices.tolist() == [1, 4]
    assert index.rows_of(torch.tensor([4, 1, 4])).tolist() == [0, 1, 0]


def test_a_block_on_some_rows_leaves_the_others_where_they_are() -> None:
    doubled = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(doubled.weight, 2.0)
    assert run_on(torch.tensor([4, 0, 2]), doubled, torch.arange(1.0, 6.0)[:, None])[:, 0].tolist() == [2, 2, 6, 4, 10]


def test_places_after_some_have_gone() -> None:
    for gone in ([3], [0, 6, 1], [5, 2, 4, 6], [6, 5, 4, 3, 2, 1]):
        new_M, old_K = compaction_maps(torch.tensor(gone), 7)
        stay = [place for place in range(7) if place not in gone]
        assert old_K.tolist() == stay
        assert [int(new_M[place]) for place in stay] == list(range(len(stay)))
