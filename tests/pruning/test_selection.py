"""Selections by hand: the best, those over a threshold, blind ones, and ones that are even for every count."""

import pytest
import torch

from edgeprune.model.policy import EXCLUDED_SCORE
from edgeprune.pruning.selection import select_none, select_over, select_random, select_top
from edgeprune.pruning.stagger import even_scores


def test_selections() -> None:
    scores_BN = torch.tensor([[0.3, -1.0, 2.0, 0.1], [5.0, 6.0, 7.0, -8.0]])
    assert select_top([2, 1])(0, scores_BN).tolist() == [[1, 0, 1, 0], [0, 1, 1, 0]]
    assert select_top([2, 1])(1, scores_BN).tolist() == [[0, 0, 1, 0], [0, 0, 1, 0]]
    assert select_over([0.2, 9.0])(0, scores_BN).tolist() == [[1, 0, 1, 0], [1, 1, 1, 0]]
    assert select_over([0.2, 9.0])(1, scores_BN).sum() == 0
    assert select_none(0, scores_BN).sum() == 0
    drawn = select_random([2, 1], torch.Generator().manual_seed(1))
    masks = torch.stack([drawn(0, scores_BN) for _ in range(100)])
    assert (masks.sum(-1) == 2).all()
    assert (masks.mean(0) - 0.5).abs().max() < 0.2  # blind to the scores


def test_a_random_selection_draws_of_those_that_are_offered() -> None:
    scores_BN = torch.randn(50, 8)
    scores_BN[:, ::2] = EXCLUDED_SCORE
    keep_BN = select_random([3, 3, 3], torch.Generator().manual_seed(0))(1, scores_BN)
    assert (keep_BN.sum(-1) == 3).all() and not keep_BN[:, ::2].any()
    assert (keep_BN[:, 1::2].mean(0) - 0.75).abs().max() < 0.2  # any of the four, whatever their scores


def test_bf16_holds_the_score_of_a_token_that_left() -> None:
    assert float(torch.tensor(EXCLUDED_SCORE, dtype=torch.bfloat16)) == EXCLUDED_SCORE


def windows(values_N: torch.Tensor, grid: tuple[int, int], count: int) -> torch.Tensor:
    """How many of the best `count` lie in each window of 4x4 cells."""
    keep_N = torch.zeros_like(values_N).scatter(0, values_N.topk(count).indices, 1.0)
    return torch.nn.functional.avg_pool2d(keep_N.view(1, 1, *grid), 4, stride=1).flatten() * 16


@pytest.mark.parametrize("grid", [(24, 32), (13, 21), (32, 32)])
def test_any_count_is_spread_evenly(grid: tuple[int, int]) -> None:
    scores_N, tokens = even_scores(grid), grid[0] * grid[1]
    assert len(set(scores_N.tolist())) == tokens
    blind_N = torch.rand(tokens, generator=torch.Generator().manual_seed(0))
    for share in (0.1, 0.25, 0.343, 0.49, 0.7, 0.9):
        found = windows(scores_N, grid, round(share * tokens))
        assert (found - 16 * share).abs().max() < 2.5, share
        assert found.var() < windows(blind_N, grid, round(share * tokens)).var() / 4


def test_half_of_a_small_grid_by_hand() -> None:
    """There is no row and no column without a token, and none full."""
    half_HW = (even_scores((4, 6)) > 0.5).view(4, 6)
    assert half_HW.sum() == 12
    for lines in (half_HW, half_HW.T):
        assert lines.any(1).all() and not lines.all(1).any()
