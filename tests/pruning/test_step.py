"""STEP: superpatches of several sizes, the largest first, on a grid that holds them; with exits behind; each half alone."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.export.graphs import export_family
from edgeprune.export.parity import measure_parity
from edgeprune.model.checkpoint import Card
from edgeprune.model.policy import EXCLUDED_SCORE, Bucket, Select, Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.cells import cell_of, count_cells, patches_of
from edgeprune.pruning.methods import make_policy, settle
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.selection import select_over, select_top
from edgeprune.pruning.superpatches import Sharing, cells_apart, choose_cells, merge_cells, round_up_merges, tokens_left
from tests import models
from tests.pruning.test_cts import cells_by_loops

GRID = (16, 16)
TOKENS = 256
SIDES = (8, 4, 2)
DEVICE = torch.device("cpu")


def policy(depth: int = 12, grid: tuple[int, int] = (24, 32), **options: object) -> Combination:
    made = make_policy(PolicySpec(name="step", options=options), Shape(192, depth, grid, 11))
    assert isinstance(made, Combination)
    return made


def drawn(seed: int = 0) -> list[Tensor]:
    """Scores of the cells of each side."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count_cells(GRID, side), generator=generator) for side in SIDES]


def merge_by_loops(scores: list[Tensor], merges: list[int]) -> list[list[int]]:
    """The merged groups: of each side the cells of the lowest scores that touch no larger group."""
    groups: list[list[int]] = []
    taken: set[int] = set()
    for side, scores_S, merging in zip(SIDES, scores, merges, strict=True):
        cells = cells_by_loops(GRID, side)
        offered = [cell for cell in range(len(cells)) if not taken & set(cells[cell])]
        for cell in sorted(offered, key=lambda cell: float(scores_S[cell]))[:merging]:
            groups.append(cells[cell])
            taken |= set(cells[cell])
    return groups


# ------------------------------------------------------------------------------------------------ geometry


@pytest.mark.parametrize("grid", [(16, 16), (24, 32), (5, 7)])
def test_cells_lie_on_a_raster(grid: tuple[int, int]) -> None:
    for side in (2, 4):
        cells = cells_by_loops(grid, side)
        assert patches_of(grid, side, DEVICE).tolist() == cells
        inside = {patch: cell for cell, patches in enumerate(cells) for patch in patches}
        expected = [inside.get(patch, len(cells)) for patch in range(grid[0] * grid[1])]
        assert cell_of(grid, side, 1, DEVICE).tolist() == expected
    small, large = cells_by_loops(grid, 2), cells_by_loops(grid, 4)
    expected = [next((up for up, cell in enumerate(large) if set(each) <= set(cell)), len(large)) for each in small]
    assert cell_of(grid, 4, 2, DEVICE).tolist() == expected


def test_counts_are_the_smallest_that_whole_superpatches_leave() -> None:
    """Against every number of merges that there can be, level by level."""
    random = np.random.default_rng(0)
    for _ in range(200):
        asked = random.integers(1, TOKENS + 1, 3).tolist()
        merges, found = round_up_merges(asked, TOKENS, GRID, SIDES)
        left = TOKENS
        for level, side in enumerate(SIDES):
            inside = sum(merges[larger] * (SIDES[larger] // side) ** 2 for larger in range(level))
            possible = [left - merged * (side * side - 1) for merged in range(count_cells(GRID, side) - inside + 1)]
            assert found[level] == min(count for count in possible if count >= max(asked[level:]))
            left = found[level]
        assert round_up_merges(found, TOKENS, GRID, SIDES) == (merges, found)


@pytest.mark.parametrize("merges", [[1, 3, 10], [0, 2, 0], [2, 0, 5], [0, 0, 1], [4, 0, 0], [1, 12, 0]])
def test_both_forms_merge_the_largest_first_and_none_inside_another(merges: list[int]) -> None:
    x_ND = torch.randn(TOKENS, 8, generator=torch.Generator().manual_seed(1))
    scores = drawn()
    groups = merge_by_loops(scores, merges)
    expected_ND = x_ND.clone()
    for group in groups:
        expected_ND[group] = x_ND[group].mean(0)

    shared = merge_cells(x_ND, choose_cells(scores, SIDES, GRID, merges), SIDES, GRID)
    assert shared.cells_M is not None and shared.owner_N is not None
    rows = TOKENS - sum(merged * (side * side - 1) for merged, side in zip(merges, SIDES, strict=True))
    assert shared.x_MD.shape == (rows, 8) and len(set(shared.cells_M.tolist())) == rows
    torch.testing.assert_close(shared.x_MD[shared.owner_N], expected_ND)
    assert torch.equal(shared.owner_N[shared.cells_M], torch.arange(rows))

    sharing = Sharing.of_single(x_ND[None], GRID)
    apart = cells_apart(merges, GRID, SIDES)
    for side, scores_S, count in zip(SIDES, scores, apart, strict=True):
        offered_1S = sharing.offered(-scores_S[None], side)
        stays_1S = torch.zeros_like(offered_1S).scatter(1, offered_1S.topk(count).indices, 1.0)
        sharing.merge(stays_1S, side)
    torch.testing.assert_close(sharing.x_BND[0], expected_ND)
    assert set(sharing.alive_BN[0].nonzero()[:, 0].tolist()) == set(shared.cells_M.tolist())
    assert torch.equal(sharing.owner_BN[0], shared.cells_M[shared.owner_N])


@pytest.mark.parametrize("thresholds", [[0.0, 0.0, 0.0], [-1.0, 0.3, 0.5], [9.0, 0.0, 0.0], [-9.0, -9.0, -9.0]])
def test_the_need_is_what_thresholds_leave_level_by_level(thresholds: list[float]) -> None:
    for seed in range(5):
        scores = drawn(seed)
        merged = [int((scores_S <= threshold).sum()) for scores_S, threshold in zip(scores, thresholds, strict=True)]
        # by its scores a side may merge cells that a larger one has: loops that stop at those offered
        expected, taken = TOKENS, set[int]()
        for side, scores_S, threshold in zip(SIDES, scores, thresholds, strict=True):
            for cell, patches in enumerate(cells_by_loops(GRID, side)):
                if scores_S[cell] <= threshold and not taken & set(patches):
                    expected -= len(patches) - 1
                    taken |= set(patches)
        assert int(tokens_left(scores, SIDES, GRID, thresholds)) == expected
        assert expected == TOKENS or sum(merged) > 0


# ------------------------------------------------------------------------------------------------ on a model


@cache
def model(exits: tuple[int, ...] = (1, 2)) -> Segmenter:
    """Three blocks on a grid of 16x16."""
    options = {"levels": [[2, 0.3], [8, 0.25], [4, 0.25]], "exits": list(exits), "keep": [0.7, 0.4], "context": 2}
    spec = ModelSpec.model_validate({"depth": 3, "stem": "conv", "height": 256, "width": 256})
    names, palette = models.STREET.names, models.STREET.palette
    return models.model(
        Card(name="tiny", model=spec, policy=PolicySpec(name="step", options=options), names=names, palette=palette)
    )


def frames(count: int) -> Tensor:
    """(F, 256, 256, 3) uint8: small scenes side by side, four times as high and wide as tests use elsewhere."""
    tiles_FHW3 = torch.from_numpy(models.frames(count)).repeat_interleave(4, 1).repeat_interleave(3, 2)
    return tiles_FHW3[:, :256, :256]


def images(count: int) -> Tensor:
    return frames(count).permute(0, 3, 1, 2).float()


COUNTS = [(193, 148, 109, 80, 40), (256, 256, 253, 253, 11), (130, 130, 130, 130, 130), (256,) * 5]


@pytest.mark.parametrize("counts", COUNTS)
def test_training_form_equals_inference_form(counts: tuple[int, ...]) -> None:
    step = model().policy
    counts = step.schedule.round_up(counts)
    with torch.no_grad():
        prediction = model()(images(2), select_top(step.schedule.candidates(counts)))
        for frame_HW3, expected_KHW in zip(frames(2), prediction.raw, strict=True):
            x_ND, skips, scores_S = model().trunk(frame_HW3)
            got_KHW = model().tail(x_ND, skips, scores_S, counts)[0]
            torch.testing.assert_close(got_KHW, expected_KHW, rtol=1e-3, atol=1e-3)
    assert [keep_BN.sum(-1).tolist() for keep_BN in prediction.masked.keep_GBN] == [[count] * 2 for count in counts]


def test_graphs_of_all_sizes_answer_as_pytorch_does_and_ask_for_what_thresholds_leave() -> None:
    step = model().policy
    buckets = [Bucket("k109", step.schedule.round_up(COUNTS[0]))]
    with torch.no_grad():
        _, _, scores_S = model().trunk(frames(1)[0])
    assert isinstance(step, Combination) and scores_S is not None
    thresholds = [*(float(scores.median()) + 1e-3 for scores in step.by_side(scores_S)), 0.0, 0.0]
    family = export_family(model(), buckets, thresholds, "onnxruntime")
    (row,) = measure_parity(model(), buckets, "fp32", family, frames(2).numpy(), 1)
    assert row.label_agreement > 0.9999 and row.selection_agreement == 1.0 and row.max_abs < 0.05
    assert not any(node.op_type == "TopK" for node in family.trunk.graph.node)
    with torch.no_grad():
        keep_GBN = model()(images(1), select_over(thresholds)).masked.keep_GBN
    assert int(step.required_tokens(scores_S, thresholds)) == int(keep_GBN[step.schedule.chosen_by].sum()) < TOKENS


def test_cells_inside_a_merged_one_are_not_offered_again() -> None:
    seen: dict[int, Tensor] = {}
    step = model().policy
    top = select_top(step.schedule.candidates(step.schedule.round_up((193, 148, 109, 80, 40))))

    def watched(gate: int, scores_BS: Tensor, select: Select = top) -> Tensor:
        seen[gate] = scores_BS
        return select(gate, scores_BS)

    with torch.no_grad():
        model()(images(2), watched)
    # one merged 8x8 holds four 4x4; with three merged 4x4, sixteen and twelve 2x2
    gone = [(seen[gate] <= EXCLUDED_SCORE).sum(-1).tolist() for gate in range(5)]
    assert gone == [[0, 0], [4, 4], [28, 28], [TOKENS - 109] * 2, [TOKENS - 80] * 2]


def test_either_half_can_be_switched_off() -> None:
    superpatches, exits = policy(exits=[]), policy(levels=[])
    assert (
        superpatches.gated == (0, 0, 0)
        and superpatches.schedule.trunk_depth == 0
        and superpatches.schedule.chosen_by == 2
    )
    assert exits.gated == (6, 8) and exits.schedule.trunk_depth == 6 and exits.schedule.chosen_by == 0
    assert policy().gated == (0, 0, 0, 6, 8)
    assert exits.schedule.target_shares == pytest.approx((0.8, 0.6))
    with pytest.raises(InputError, match="nothing is left to decide"):
        policy(levels=[], exits=[])
    with torch.no_grad():
        assert model(()) is not model() and model(())(images(1)).masked.open_BN is None


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("step", {"levels": [[16, 0.1], [8, 0.2], [4, 0.2], [2, 0.15]]}),
        ("combined", {"levels": [[16, 0.1], [2, 0.15]], "gates": {}}),
    ],
)
def test_sizes_that_do_not_divide_the_grid_are_refused_with_those_that_do(name: str, options: dict[str, Any]) -> None:
    spec = PolicySpec(name=name, options=options)
    with pytest.raises(
        InputError,
        match=r"16 does not divide the grid of 24x32 patches; sides that do: 8, 4, 2\. .*multiples of 16 patches",
    ):
        make_policy(spec, Shape(192, 12, (24, 32), 11))
    assert make_policy(spec, Shape(192, 12, (32, 48), 11)).gated[:2] == (0, 0)
    with pytest.raises(InputError, match="does not divide the grid of 15x20 patches; no side does"):
        make_policy(spec, Shape(192, 12, (15, 20), 11))


def test_levels_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="levels=.*each side once, shares of 1 together at most"):
        policy(levels=[[2, 0.7], [4, 0.4]])
    with pytest.raises(InputError, match="levels"):
        policy(levels=[[3, 0.5]])


@pytest.mark.parametrize(
    ("grid", "sides"), [((64, 64), (16, 8, 4, 2)), ((24, 32), (8, 4, 2)), ((12, 16), (4, 2)), ((18, 24), (2,))]
)
def test_the_default_leaves_the_papers_two_fifths_of_the_tokens_on_every_grid(
    grid: tuple[int, int], sides: tuple[int, ...]
) -> None:
    made, last = policy(grid=grid), len(sides) - 1
    assert made.sides == sides
    assert made.schedule.target_shares[last] == pytest.approx(0.4035, abs=0.001)
    # written out, as a checkpoint has it, it is the same policy, and nothing is left to choose
    settled = settle(PolicySpec(name="step"), made.shape)
    assert [side for side, _ in settled.options["levels"]] == list(sides)
    assert make_policy(settled, made.shape).schedule == made.schedule and settle(settled, made.shape) == settled
    counts = made.schedule.target_counts
    assert counts == made.schedule.round_up(counts)
    assert counts[last] == pytest.approx(made.tokens * made.schedule.target_shares[last], abs=3)
    assert list(counts[last + 1 :]) == [round(made.tokens * share) for share in made.schedule.target_shares[last + 1 :]]


def test_the_default_needs_a_grid_that_some_side_divides() -> None:
    with pytest.raises(
        InputError, match="no side of superpatches .* divides the grid of 15x20 patches.*multiples of 2 patches"
    ):
        policy(grid=(15, 20))
    assert policy(grid=(15, 20), levels=[]).gated == (6, 8)


def test_a_crop_that_holds_no_large_cell_trains_all_the_same() -> None:
    crop = images(2)[..., :48, :112]
    step = model().train()
    try:
        labels_BHW = torch.zeros(2, 48, 112, dtype=torch.long)
        masked = step(crop, None, labels_BHW).masked
        masked.loss.backward()
    finally:
        step.zero_grad()
        step.eval()
    assert [keep_BN.shape for keep_BN in masked.keep_GBN] == [(2, 21)] * 5
    assert (masked.keep_GBN[0] == 1).all() and (masked.keep_GBN[2].sum(-1) < 21).all()
