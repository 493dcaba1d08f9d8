"""Superpatches of several sizes on any grid, the largest first: counts, and both forms, against loops over patches."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.bundle.target import BucketFamily
from edgeprune.export.family import ROWS, place_buckets
from edgeprune.model.policy import Shape
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.cells import count_cells
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.decisions import CombinedSchedule, fitting, held
from edgeprune.pruning.superpatches import (
    Purity,
    Sharing,
    cells_apart,
    choose_cells,
    merge_cells,
    purity_targets,
    round_up_merges,
    tokens_left,
)
from tests.pruning.test_cts import cells_by_loops

Grid = tuple[int, int]
GRID, SIDES = (16, 16), (8, 4, 2)


def drawn(seed: int = 0, grid: Grid = GRID, sides: Sequence[int] = SIDES) -> list[Tensor]:
    """Scores of the cells of each side."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count_cells(grid, side), generator=generator) for side in sides]


def merge_by_loops(
    scores: list[Tensor], merges: list[int], grid: Grid, sides: Sequence[int]
) -> tuple[list[list[int]], list[int]]:
    """The merged groups: of each side the cells of the lowest scores that touch no larger group; and how many were offered."""
    groups: list[list[int]] = []
    offers: list[int] = []
    taken: set[int] = set()
    for side, scores_S, merging in zip(sides, scores, merges, strict=True):
        cells = cells_by_loops(grid, side)
        offered = [cell for cell in range(len(cells)) if not taken & set(cells[cell])]
        offers.append(len(offered))
        for cell in sorted(offered, key=lambda cell: float(scores_S[cell]))[:merging]:
            groups.append(cells[cell])
            taken |= set(cells[cell])
    return groups, offers


def check_both_forms(merges: list[int], grid: Grid, sides: Sequence[int], seed: int = 0) -> None:
    """Both forms merge what the loops merge, and offer as many cells."""
    tokens = grid[0] * grid[1]
    x_ND = torch.randn(tokens, 4, generator=torch.Generator().manual_seed(seed + 1))
    scores = drawn(seed, grid, sides)
    groups, offers = merge_by_loops(scores, merges, grid, sides)
    expected_ND = x_ND.clone()
    for group in groups:
        expected_ND[group] = x_ND[group].mean(0)
    rows = tokens - sum(merged * (side * side - 1) for merged, side in zip(merges, sides, strict=True))

    shared = merge_cells(x_ND, choose_cells(scores, sides, grid, merges), sides, grid)
    assert shared.cells_M is not None and shared.owner_N is not None
    assert shared.x_MD.shape == (rows, 4) and len(set(shared.cells_M.tolist())) == rows
    torch.testing.assert_close(shared.x_MD[shared.owner_N], expected_ND)
    assert torch.equal(shared.owner_N[shared.cells_M], torch.arange(rows))

    sharing = Sharing.of_single(x_ND[None], grid)
    apart = cells_apart(merges, grid, sides)
    assert apart == [offer - merged for offer, merged in zip(offers, merges, strict=True)]
    for side, scores_S, count in zip(sides, scores, apart, strict=True):
        offered_1S = sharing.offered(-scores_S[None], side)
        stays_1S = torch.zeros_like(offered_1S).scatter(1, offered_1S.topk(count).indices, 1.0)
        sharing.merge(stays_1S, side)
    torch.testing.assert_close(sharing.x_BND[0], expected_ND)
    assert set(sharing.alive_BN[0].nonzero()[:, 0].tolist()) == set(shared.cells_M.tolist())
    assert torch.equal(sharing.owner_BN[0], shared.cells_M[shared.owner_N])


@pytest.mark.parametrize(
    ("grid", "sides", "merges"),
    [
        *((GRID, SIDES, merges) for merges in ([1, 3, 10], [0, 2, 0], [2, 0, 5], [0, 0, 1], [4, 0, 0], [1, 12, 0])),
        ((5, 7), (2,), [4]),
        ((5, 7), (4, 2), [1, 2]),
        ((6, 9), (4, 2), [1, 8]),  # every cell
        ((18, 24), (16, 8, 4, 2), [1, 1, 2, 8]),
        ((18, 24), (16, 4), [0, 9]),
        ((18, 24), (16, 4), [1, 3]),
        ((24, 32), (16,), [1]),
        ((21, 19), (8, 2), [3, 5]),
    ],
)
def test_both_forms_merge_the_largest_first_and_none_inside_another(
    grid: Grid, sides: tuple[int, ...], merges: list[int]
) -> None:
    check_both_forms(merges, grid, sides)


def test_counts_are_the_smallest_that_whole_superpatches_leave() -> None:
    """On any grid, against every number of merges that there can be, level by level; and both forms have them."""
    random = np.random.default_rng(0)
    for case in range(150):
        grid = tuple(random.integers(2, 36, 2).tolist()) if case % 3 else GRID
        tokens, fit = grid[0] * grid[1], fitting(grid)
        sides = sorted(random.choice(fit, random.integers(1, len(fit) + 1), replace=False).tolist(), reverse=True)
        asked = random.integers(1, tokens + 1, len(sides)).tolist()
        merges, found = round_up_merges(asked, tokens, grid, sides)
        left = tokens
        for level, side in enumerate(sides):
            inside = sum(merges[larger] * (sides[larger] // side) ** 2 for larger in range(level))
            possible = [left - merged * (side * side - 1) for merged in range(count_cells(grid, side) - inside + 1)]
            assert found[level] == min(count for count in possible if count >= max(asked[level:]))
            left = found[level]
        assert round_up_merges(found, tokens, grid, sides) == (merges, found)
        if any(merges):
            check_both_forms(merges, grid, sides, case)


@pytest.mark.parametrize("thresholds", [[0.0, 0.0, 0.0], [-1.0, 0.3, 0.5], [9.0, 0.0, 0.0], [-9.0, -9.0, -9.0]])
@pytest.mark.parametrize("grid", [GRID, (13, 18)])
def test_the_need_is_what_thresholds_leave_level_by_level(thresholds: list[float], grid: Grid) -> None:
    for seed in range(5):
        scores = drawn(seed, grid)
        merged = [int((scores_S <= threshold).sum()) for scores_S, threshold in zip(scores, thresholds, strict=True)]
        # by its scores a side may merge cells that a larger one has: loops that stop at those offered
        expected, taken = grid[0] * grid[1], set[int]()
        for side, scores_S, threshold in zip(SIDES, scores, thresholds, strict=True):
            for cell, patches in enumerate(cells_by_loops(grid, side)):
                if scores_S[cell] <= threshold and not taken & set(patches):
                    expected -= len(patches) - 1
                    taken |= set(patches)
        assert int(tokens_left(scores, SIDES, grid, thresholds)) == expected
        assert expected == grid[0] * grid[1] or sum(merged) > 0


# ------------------------------------------------------------------------------------------------ on any grid


@pytest.mark.parametrize("grid", [(5, 7), (6, 9), (18, 24), (17, 16), (2, 3), (3, 4)])
def test_the_cnn_and_its_targets_have_one_value_for_each_cell(grid: Grid) -> None:
    sides = (16, 8, 4, 2)
    images_B3HW = torch.rand(1, 3, 16 * grid[0], 16 * grid[1])
    purity = Purity(sides).eval()
    logits = purity(images_B3HW)
    counts = [count_cells(grid, side) for side in sides]
    assert [logits_BS.shape[1] for logits_BS in logits] == counts
    assert [purity_targets(images_B3HW[:, 0], 16 * side).shape[1] for side in sides] == counts
    torch.stack([logits_BS.sum() for logits_BS in logits]).sum().backward()  # several processes wait for every gradient
    assert all(parameter.grad is not None for parameter in purity.parameters())


def test_what_a_side_cannot_hold_goes_to_the_next_smaller_one() -> None:
    assert held((24, 32), [(16, 0.1), (8, 0.2)]) == (0.1, 0.2)
    whole = 2 * 256 / 768  # two superpatches of 16x16 fit
    assert held((24, 32), [(16, 0.7)]) == (whole,)
    first, second = held((24, 32), [(16, 0.7), (8, 0.2)])
    assert first == whole and second == pytest.approx(0.2 + (0.7 - whole) * (1 - 16**-2) / (1 - 8**-2))
    assert held((24, 32), [(16, 0.7), (8, 0.3)]) == (whole, 1 - whole)
    assert held((5, 7), [(2, 0.8)]) == (24 / 35,)


@pytest.mark.parametrize("name", ["cts", "cts-svit", "step"])
@pytest.mark.parametrize("grid", [(5, 7), (15, 20), (18, 24), (37, 37), (40, 40)])
def test_buckets_are_counts_that_whole_superpatches_leave(name: str, grid: Grid) -> None:
    """Placed by what frames ask for: none under it, congruent to the grid modulo three, rows in eights."""
    schedule = make_policy(PolicySpec(name=name), Shape(16, 12, grid, 11)).schedule
    tokens, by = schedule.tokens, schedule.chosen_by
    random = np.random.default_rng(0)
    for multiple in (1, 32):
        scales_F1 = random.uniform(0.6, 1.4, (12, 1))
        counts_FG = np.clip(np.rint(scales_F1 * schedule.target_shares * tokens), 1, tokens)
        buckets = place_buckets(schedule, BucketFamily(count=5, multiple=multiple), (counts_FG / tokens).tolist())
        chosen = [bucket.counts[by] for bucket in buckets]
        assert chosen == sorted(set(chosen)) and chosen[-1] == tokens
        assert all(any(count >= need for count in chosen) for need in counts_FG[:, by])
        for bucket in buckets:
            assert schedule.round_up(bucket.counts) == bucket.counts
            rows = bucket.counts[max(0, schedule.merging - 1) :]
            assert all(count % ROWS == 0 or count == tokens for count in rows)
            merged = bucket.counts[: schedule.merging]
            assert all((tokens - count) % 3 == 0 for count in merged)
            assert all(larger >= smaller for larger, smaller in pairwise(merged))


def test_a_bucket_may_merge_any_number_of_large_ones() -> None:
    """All sizes merge at once, and only what they leave together makes rows, in eights."""
    schedule = make_policy(PolicySpec(name="step"), Shape(16, 12, (48, 64), 11)).schedule
    assert isinstance(schedule, CombinedSchedule) and schedule.target_counts[:4] == (2817, 2187, 1587, 1242)
    asked = [count / 3072 for count in schedule.target_counts]
    first, _ = place_buckets(schedule, BucketFamily(count=2, multiple=8), [asked] * 8)
    assert schedule.merges(first.counts)[:3] == [1, 10, 40] and first.counts[3] == 1248
    assert [schedule.makes_rows(place) for place in range(6)] == [False] * 3 + [True] * 3
