"""ALGM against its paper: windows, then pairs; thresholds of one image alone; counts that four-to-one can leave."""

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.cells import patches_of
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.algm import ALGM, WINDOW, ALGMOptions, merge_windows, window_cosines
from edgeprune.pruning.selection import select_none, select_random, select_top
from edgeprune.quantize.calibrate import calibrate_thresholds
from tests import models
from tests.pruning.merging import (
    Cells,
    best_pairs_by_loops,
    check_both_forms,
    groups_of,
    merge_by_loops,
    share_by_loops,
)


def policy(depth: int = 12, grid: tuple[int, int] = (24, 32), **options: object) -> ALGM:
    made = make_policy(PolicySpec(name="algm", options=options), Shape(192, depth, grid, 11))
    assert isinstance(made, ALGM)
    return made


def windows_by_loops(grid: tuple[int, int]) -> Cells:
    """The cells of each window of 2x2 that fits into the grid."""
    return [
        [
            row * grid[1] + column,
            row * grid[1] + column + 1,
            (row + 1) * grid[1] + column,
            (row + 1) * grid[1] + column + 1,
        ]
        for row in range(0, grid[0] - 1, 2)
        for column in range(0, grid[1] - 1, 2)
    ]


def cosine_by_loops(x_ND: np.ndarray, cells: list[int]) -> float:
    """The mean over the six pairs."""
    pairs = list(combinations(cells, 2))
    cosines = [x_ND[a] @ x_ND[b] / np.linalg.norm(x_ND[a]) / np.linalg.norm(x_ND[b]) for a, b in pairs]
    return float(sum(cosines) / len(pairs))


def algm_by_loops(
    model: Segmenter, x_ND: Tensor, counts: list[int] | None, tau: float = 0.88
) -> tuple[Tensor, list[Cells]]:
    """The whole network on the full grid. A block sees one token of each group; with `proportional` a copy in every cell of
    it, which is what the log of its size stands for. `counts` None: by the paper's thresholds."""
    assert isinstance(model.policy, ALGM)
    cells: Cells = [[cell] for cell in range(models.N)]
    steps = []
    for index in range(model.spec.depth):
        if index == model.policy.gated[0]:
            found = sorted((cosine_by_loops(x_ND.numpy(), window), window) for window in windows_by_loops(models.GRID))
            merging = sum(cosine > tau for cosine, _ in found) if counts is None else (models.N - counts[0]) // 3
            taken = [window for _, window in found[len(found) - merging :]]
            singles = [[cell] for cell in range(models.N) if not any(cell in window for window in taken)]
            cells = sorted(singles + taken)
            steps.append(cells)
        elif index == model.policy.gated[1]:
            features_MD = x_ND[[group[0] for group in cells]].numpy()
            cosines = [cosine for cosine, _, _ in best_pairs_by_loops(features_MD)]
            over = sum(bool(cosine > np.mean(cosines) + np.std(cosines) / index) for cosine in cosines)
            cells = merge_by_loops(cells, features_MD, over if counts is None else len(cells) - counts[1])
            steps.append(cells)
        x_ND = share_by_loops(x_ND, cells)
        if model.policy.options.proportional:
            x_ND = model.blocks[index](x_ND)
            continue
        for token_D, group in zip(model.blocks[index](x_ND[[group[0] for group in cells]]), cells, strict=True):
            x_ND[group] = token_D
    return x_ND, steps


@pytest.fixture(scope="module", params=[False, True], ids=["single", "proportional"])
def model(request: pytest.FixtureRequest) -> Segmenter:
    return models.model(models.card("algm", proportional=request.param))


# ------------------------------------------------------------------------------------------------ the whole method


@pytest.mark.parametrize("counts", [[21, 15], [6, 3], [24, 20], [18, 18], [12, 6]])
def test_both_forms_are_the_paper_by_loops(model: Segmenter, counts: list[int]) -> None:
    check_both_forms(model, counts, algm_by_loops)


def test_training_merges_by_the_papers_thresholds_image_by_image(model: Segmenter) -> None:
    """tau, then mean + standard deviation / number of the block; an image's counts are its own, whatever its batch mates."""
    with torch.no_grad():
        x_BND = model.embed(models.images(3))[0]
        x_BND[1] = x_BND[1].mean(0) + 0.1 * x_BND[1]  # an image that is almost one colour
        cosines = [
            cosine_by_loops(model.blocks[0](x_ND).numpy(), window)
            for x_ND in x_BND
            for window in windows_by_loops(models.GRID)
        ]
        tau = float(np.median(cosines))
        proportional = model.policy.options.proportional  # type: ignore[union-attr]
        trained = models.model(models.card("algm", tau=tau, proportional=proportional))
        trained.policy.train()
        masked = trained.policy.masked(list(trained.blocks), x_BND, models.VIEW)
        assert masked.group_GBN is not None
        for image in range(3):
            expected_ND, steps = algm_by_loops(trained, x_BND[image], None, tau)
            torch.testing.assert_close(masked.x_BND[image], expected_ND, rtol=1e-4, atol=1e-4)
            for group_BN, cells in zip(masked.group_GBN, steps, strict=True):
                assert groups_of(group_BN[image]) == {frozenset(group) for group in cells}
        assert all(len(set(keep_BN.sum(-1).tolist())) > 1 for keep_BN in masked.keep_GBN)


def test_a_merged_token_counts_as_one_in_attention_unless_told(model: Segmenter) -> None:
    """The released code leaves sizes unused in attention; ToMe's bias moves the tokens of the block behind the merge."""
    plain, proportional = (models.model(models.card("algm", proportional=value)) for value in (False, True))
    x_BND = plain.embed(models.images(2))[0].detach()
    ran = []
    for made in (plain, proportional):
        with torch.no_grad():
            select = select_top(made.policy.schedule.candidates([9, 9]))
            masked = made.policy.masked(list(made.blocks[:2]), x_BND, models.VIEW, select)
        ran.append(masked.x_BND)
    merged_BND = share_windows(plain, x_BND, 5)
    unequal = (ran[0] - ran[1]).abs().amax()
    assert ALGMOptions().proportional is False and unequal > 0.05
    torch.testing.assert_close(ran[0], merged_BND, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def share_windows(model: Segmenter, x_BND: Tensor, merging: int) -> Tensor:
    """Two blocks, with the `merging` most alike windows as one token each between them, by loops."""
    found = []
    for x_ND in x_BND:
        y_ND = model.blocks[0](x_ND)
        alike = sorted((cosine_by_loops(y_ND.numpy(), window), window) for window in windows_by_loops(models.GRID))
        ranked = [window for _, window in alike[::-1][:merging]]
        groups = ranked + [[cell] for cell in range(models.N) if not any(cell in window for window in ranked)]
        tokens_MD = torch.stack([y_ND[group].mean(0) for group in groups])
        out_ND = torch.empty_like(y_ND)
        for token_D, group in zip(model.blocks[1](tokens_MD), groups, strict=True):
            out_ND[group] = token_D
        found.append(out_ND)
    return torch.stack(found)


# ------------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize("grid", [(4, 6), (3, 4), (5, 3), (2, 2)])
def test_windows_and_their_cosines(grid: tuple[int, int]) -> None:
    cells_W4 = patches_of(grid, WINDOW, torch.device("cpu"))
    windows = windows_by_loops(grid)
    assert cells_W4.tolist() == windows
    x_ND = torch.randn(grid[0] * grid[1], 16, generator=torch.Generator().manual_seed(0)) + 1
    expected = [cosine_by_loops(x_ND.numpy(), window) for window in windows]
    assert window_cosines(x_ND, cells_W4).tolist() == pytest.approx(expected, abs=1e-5)
    assert window_cosines(x_ND[None].repeat(2, 1, 1), cells_W4)[1].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("grid", [(4, 6), (3, 5)])
def test_merged_windows_are_means_and_every_cell_is_written_once(grid: tuple[int, int]) -> None:
    cells_W4 = patches_of(grid, WINDOW, torch.device("cpu"))
    windows = windows_by_loops(grid)
    tokens = grid[0] * grid[1]
    x_ND = torch.randn(tokens, 16, generator=torch.Generator().manual_seed(0))
    for taken in ([1], [1, 0], list(range(len(windows)))):
        for order in (taken, taken[::-1]):
            merged = merge_windows(x_ND, torch.tensor(order), cells_W4)
            gone = {cell for window in taken for cell in windows[window][1:]}
            firsts = {windows[window][0] for window in taken}
            stay = [cell for cell in range(tokens) if cell not in gone]
            torch.testing.assert_close(merged.unmerge(), share_by_loops(x_ND, [windows[window] for window in taken]))
            assert merged.size_M is not None and merged.owner_N is not None
            assert merged.size_M.tolist() == [4 if cell in firsts else 1 for cell in stay]
            assert merged.owner_N.bincount().tolist() == merged.size_M.tolist()
            assert merged.owner_N[stay].tolist() == list(range(len(stay)))


def test_cells_of_an_odd_row_are_in_no_window(model: Segmenter) -> None:
    crop = model(models.images(2)[..., :48, :64], select_none)
    windows_left, pairs_left = (keep_BN.sum(-1).tolist() for keep_BN in crop.masked.keep_GBN)
    assert windows_left == [6, 6] and pairs_left == [3, 3]  # 3x4: two windows, and four cells of the last row


# ------------------------------------------------------------------------------------------------ schedule


def test_the_papers_places_and_the_default_share_of_work() -> None:
    made = policy()
    assert made.gated == (1, 5) and made.schedule.trunk_depth == 1
    assert made.schedule.target_counts == (540, 384)
    assert made.schedule.relative_token_layers(made.schedule.target_shares) == pytest.approx(
        (1 + 4 * 0.7 + 7 * 0.5) / 12
    )


def test_calibrated_thresholds_leave_the_target_share(model: Segmenter) -> None:
    _, occupancy_FG = calibrate_thresholds(model, models.images(16))
    for share, target in zip(np.mean(occupancy_FG, axis=0), model.policy.schedule.target_shares, strict=True):
        assert share == pytest.approx(target, abs=0.03)


def test_random_merges_as_many_windows_and_pairs(model: Segmenter) -> None:
    counts = [15, 10]
    drawn = select_random(model.policy.schedule.candidates(counts), torch.Generator().manual_seed(0))
    keeps = model(models.images(3), drawn).masked.keep_GBN
    assert [keep_BN.sum(-1).tolist() for keep_BN in keeps] == [[15] * 3, [10] * 3]
    top = model(models.images(3), select_top(model.policy.schedule.candidates(counts))).masked.keep_GBN
    assert not torch.equal(keeps[0], top[0])


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_feasible_counts_are_the_smallest_of_all_that_exist(grid: tuple[int, int]) -> None:
    """Tried out: every number of windows, then of pairs."""
    tokens = grid[0] * grid[1]
    exist = []
    for windows in range(len(windows_by_loops(grid)) + 1):
        first = tokens - 3 * windows
        exist += [(first, second) for second in range(first // 2, first + 1)]
    made = policy(grid=grid)
    for asked in product(range(1, tokens + 1), repeat=2):
        holding = [counts for counts in exist if counts[0] >= asked[0] and counts[1] >= asked[1]]
        assert made.schedule.round_up(asked) == min(holding)
        assert all(min(holding)[1] <= counts[1] for counts in holding)


def test_gradients_reach_every_cell_through_both_merges(model: Segmenter) -> None:
    x_BND = model.embed(models.images(2))[0].detach().requires_grad_()
    model.policy.masked(list(model.blocks), x_BND, models.VIEW, select_none).x_BND.square().sum().backward()
    assert x_BND.grad is not None and x_BND.grad.isfinite().all()
    assert (x_BND.grad.abs().amax(-1) > 0).all()
    model.zero_grad()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"windows_after": 5},
            "windows_after=5, pairs_after=5: expected in this order and below the model's 12 blocks",
        ),
        ({"pairs_after": 12}, "windows_after=1, pairs_after=12"),
        ({"keep": (0.2, 0.2)}, "windows leave 0.25 to 1"),
        ({"keep": (0.8, 0.3)}, "pairs at least half of these"),
        ({"keep": (0.5, 0.6)}, "pairs at least half of these"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        policy(**options)
