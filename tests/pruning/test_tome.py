"""ToMe against its paper: matching, size-weighted means, proportional attention, un-merging; the order of tokens.

The reference never counts sizes. It keeps the full grid, in which every cell of a group holds a copy of its token: there a
mean over cells is the size-weighted mean, and plain attention over cells is the proportional attention over groups.
"""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.merging import Groups, MergedTokens, choose_pairs, merge_pairs, partners
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.tome import ToMe, keys
from edgeprune.pruning.selection import select_none, select_over, select_random, select_top
from edgeprune.quantize.calibrate import calibrate_thresholds
from tests import models
from tests.pruning.merging import (
    Cells,
    best_pairs_by_loops,
    check_both_forms,
    merge_by_loops,
    share_by_loops,
)


def policy(depth: int = 12, grid: tuple[int, int] = (24, 32), **options: object) -> ToMe:
    made = make_policy(PolicySpec(name="tome", options=options), Shape(192, depth, grid, 11))
    assert isinstance(made, ToMe)
    return made


def tome_by_loops(model: Segmenter, x_ND: Tensor, counts: list[int]) -> tuple[Tensor, list[Cells]]:
    """The whole network on the full grid: tokens (N, D), and the groups after each decision."""
    cells: Cells = [[cell] for cell in range(models.N)]
    x_ND, keys_NE = model.blocks[0](x_ND), keys(model.blocks[0], x_ND)
    steps = []
    for block, count in zip(list(model.blocks)[1:], counts, strict=True):
        first = [group[0] for group in cells]
        cells = merge_by_loops(cells, keys_NE[first].numpy(), len(cells) - count)
        steps.append(cells)
        x_ND = share_by_loops(x_ND, cells)
        x_ND, keys_NE = block(x_ND), keys(block, x_ND)
    return x_ND, steps


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return models.model(models.card("tome"))


# ------------------------------------------------------------------------------------------------ the whole method


@pytest.mark.parametrize("counts", [[20, 15, 10], [12, 6, 3], [23, 23, 12], [24, 13, 13]])
def test_both_forms_are_the_paper_by_loops(model: Segmenter, counts: list[int]) -> None:
    check_both_forms(model, counts, tome_by_loops)


# ------------------------------------------------------------------------------------------------ matching and merging


@pytest.mark.parametrize("there", [2, 3, 8, 13])
def test_partners_are_the_most_similar_of_the_other_half(there: int) -> None:
    features_ME = torch.randn(there, 64, generator=torch.Generator().manual_seed(there))
    best_A, match_A = partners(features_ME)
    for cosine, source, partner in best_pairs_by_loops(features_ME.numpy()):
        assert best_A[source // 2].item() == pytest.approx(cosine, abs=1e-5)
        assert 2 * int(match_A[source // 2]) + 1 == partner


def test_padding_is_nobodys_partner() -> None:
    features_ME = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    padded_ME = torch.cat((features_ME[:5], features_ME[:1], features_ME[2:4]))  # copies of the sources
    best_A, match_A = partners(padded_ME, torch.arange(8) < 5)
    alone_A, alone_match_A = partners(features_ME[:5])
    torch.testing.assert_close(best_A[:3], alone_A)
    assert torch.equal(match_A[:3], alone_match_A)


def some_frame(seed: int) -> tuple[MergedTokens, list[list[int]]]:
    """Nine tokens of 24 cells, as merging leaves them, and the cells of each."""
    generator = torch.Generator().manual_seed(seed)
    cells: Cells = [[cell] for cell in range(models.N)]
    while len(cells) > 9:
        cells = merge_by_loops(cells, torch.randn(len(cells), 8, generator=generator).numpy(), min(4, len(cells) - 9))
    owner_N = torch.empty(models.N, dtype=torch.long)
    for token, group in enumerate(cells):
        owner_N[group] = token
    size_M = torch.tensor([float(len(group)) for group in cells])
    return MergedTokens(torch.randn(9, 16, generator=generator), size_M, owner_N), cells


@pytest.mark.parametrize("merging", [1, 2, 4, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_merging_means_over_cells_in_any_order_of_the_topk(seed: int, merging: int) -> None:
    frame, cells = some_frame(seed)
    features_ME = torch.randn(9, 8, generator=torch.Generator().manual_seed(9))
    best_A, match_A = partners(features_ME)
    taken_R = best_A.topk(merging).indices
    assert frame.owner_N is not None
    expected = merge_by_loops(cells, features_ME.numpy(), merging)
    shared_ND = share_by_loops(frame.x_MD[frame.owner_N], expected)
    for order_R in (taken_R, taken_R.flip(0), taken_R.roll(1)):
        merged = merge_pairs(frame, order_R, match_A)
        torch.testing.assert_close(merged.unmerge(), shared_ND)
        assert merged.size_M is not None and merged.size_M.tolist() == [len(group) for group in expected]
        # each cell is written once, by the token of its own group
        assert merged.owner_N is not None
        for token, group in enumerate(expected):
            assert (merged.owner_N == token).nonzero()[:, 0].tolist() == sorted(group)


def test_a_token_that_stands_for_three_cells_weighs_three() -> None:
    frame = MergedTokens(torch.tensor([[4.0], [8.0]]), torch.tensor([1.0, 3.0]), torch.tensor([0, 1, 1, 1]))
    merged = merge_pairs(frame, torch.tensor([0]), torch.tensor([0]))
    assert merged.x_MD.tolist() == [[7.0]] and merged.size_M is not None and merged.size_M.tolist() == [4.0]
    groups = Groups.of_single(torch.tensor([[[4.0], [8.0], [8.0], [8.0]]])).merge(torch.tensor([[0, 1, 1, 1]]), 2)
    assert groups.x_BMD.tolist() == [[[4.0], [8.0]]] and groups.size_BM.tolist() == [[1.0, 3.0]]
    assert groups.merge(torch.tensor([[1, 1]])).unmerge().tolist() == [[[7.0]] * 4]


def test_attention_to_a_group_is_attention_to_its_cells(model: Segmenter) -> None:
    frame, _ = some_frame(0)
    assert frame.owner_N is not None
    x_MD = torch.randn(9, 192, generator=torch.Generator().manual_seed(1))
    block = models.block(model, 1)
    with torch.no_grad():
        over_groups_ND = block(x_MD, None, frame.bias_M)[frame.owner_N]
        torch.testing.assert_close(over_groups_ND, block(x_MD[frame.owner_N]), rtol=1e-4, atol=1e-4)
        assert (block(x_MD)[frame.owner_N] - over_groups_ND).abs().max() > 0.01


# ------------------------------------------------------------------------------------------------ batches


def test_images_of_one_batch_keep_what_they_would_keep_alone(model: Segmenter) -> None:
    """By threshold, so that counts differ; the batch is as wide as the image that keeps the most."""
    images_B3HW = models.images(4)
    images_B3HW[1] = 90.0  # nothing but positions to tell cells apart
    thresholds, _ = calibrate_thresholds(model, models.images(8))
    with torch.no_grad():
        together = model(images_B3HW, select_over(thresholds))
        counts_GB = [keep_BN.sum(-1).tolist() for keep_BN in together.masked.keep_GBN]
        assert all(len(set(counts_B)) > 1 for counts_B in counts_GB)
        for image in range(4):
            alone = model(images_B3HW[image : image + 1], select_over(thresholds))
            torch.testing.assert_close(alone.raw[0], together.raw[image], rtol=1e-3, atol=1e-3)
            for keep_1N, keep_BN in zip(alone.masked.keep_GBN, together.masked.keep_GBN, strict=True):
                assert torch.equal(keep_1N[0], keep_BN[image])


def test_calibrated_thresholds_leave_the_target_share(model: Segmenter) -> None:
    _, occupancy_FG = calibrate_thresholds(model, models.images(8))
    for share, target in zip(np.mean(occupancy_FG, axis=0), model.policy.schedule.target_shares, strict=True):
        assert share == pytest.approx(target, abs=0.03)


def test_without_any_choice_every_source_merges_and_the_last_token_stays() -> None:
    deep = models.model(models.card("tome", depth=8))
    keeps = deep(models.images(2), select_none).masked.keep_GBN
    assert [keep_BN.sum(-1).tolist() for keep_BN in keeps] == [[count] * 2 for count in (12, 6, 3, 1, 1, 1, 1)]


def test_scores_of_every_decision_are_as_wide_and_what_fills_them_is_never_chosen(model: Segmenter) -> None:
    seen: list[Tensor] = []
    select = select_top(model.policy.schedule.candidates([17, 9, 5]))

    def watched(gate: int, scores_BN: Tensor) -> Tensor:
        seen.append(scores_BN)
        return select(gate, scores_BN)

    model(models.images(2), watched)
    assert [scores_BA.shape for scores_BA in seen] == [(2, 12)] * 3
    assert [(scores_BA > -1.1).sum(-1).tolist() for scores_BA in seen] == [[12, 12], [9, 9], [5, 5]]
    assert all((scores_BA[scores_BA < -1.1] < -1e3).all() for scores_BA in seen)


def test_random_merges_as_many_drawn_from_the_sources(model: Segmenter) -> None:
    counts = [17, 12, 10]
    drawn = select_random(model.policy.schedule.candidates(counts), torch.Generator().manual_seed(0))
    keeps = model(models.images(3), drawn).masked.keep_GBN
    assert [keep_BN.sum(-1).tolist() for keep_BN in keeps] == [[count] * 3 for count in counts]
    top = model(models.images(3), select_top(model.policy.schedule.candidates(counts))).masked.keep_GBN
    assert not torch.equal(keeps[0], top[0])
    assert (keeps[0][:, 1::2] == 1).all()  # partners are no candidates


def test_gradients_reach_every_cell_and_stay_finite_beside_padding(model: Segmenter) -> None:
    images_B3HW = models.images(2)
    images_B3HW[1] = 90.0
    x_BND = model.embed(images_B3HW)[0].detach().requires_grad_()
    model.policy.masked(list(model.blocks), x_BND, models.VIEW, select_over([-0.3] * 3)).x_BND.square().sum().backward()
    assert x_BND.grad is not None and x_BND.grad.isfinite().all()
    assert (x_BND.grad.abs().amax(-1) > 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    model.zero_grad()


def test_mixed_precision_merges_as_many_and_sizes_stay_exact(model: Segmenter) -> None:
    x_BND = model.embed(models.images(2))[0].detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        select = select_top(model.policy.schedule.candidates([17, 12, 10]))
        masked = model.policy.masked(list(model.blocks), x_BND, models.VIEW, select)
    assert [keep_BN.sum(-1).tolist() for keep_BN in masked.keep_GBN] == [[17, 17], [12, 12], [10, 10]]
    masked.x_BND.square().sum().backward()
    assert masked.x_BND.dtype == torch.float32 and x_BND.grad is not None and x_BND.grad.isfinite().all()
    model.zero_grad()


def test_choosing_needs_no_even_number_of_tokens() -> None:
    groups = Groups.of_single(torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)))
    into_BM = choose_pairs(0, groups.x_BMD, groups, select_none)
    assert (into_BM[:, 1::2] == torch.tensor([1, 3])).all() and (into_BM[:, 0::2] % 2 == 1).all()
    assert groups.merge(into_BM).count_B.tolist() == [2, 2]


# ------------------------------------------------------------------------------------------------ schedule


def test_equally_many_go_after_each_block_and_almost_half_of_the_work() -> None:
    made = policy()
    counts = [768, *made.schedule.target_counts]
    assert made.gated == tuple(range(1, 12)) and counts[-1] == 77
    assert {before - after for before, after in pairwise(counts)} == {62, 63}
    assert made.schedule.relative_token_layers(made.schedule.target_shares) == pytest.approx(0.55)


def test_a_schedule_falls_by_half_at_the_most() -> None:
    made = policy(depth=4, keep=0.01)
    assert made.schedule.target_shares == pytest.approx((0.67, 0.34, 0.17))
    assert policy(depth=3, keep=0.01).schedule.target_shares == pytest.approx((0.505, 0.2525))
    assert all(0 <= share <= 1 for share in made.schedule.candidate_shares)


@pytest.mark.parametrize("asked", list(product([1, 3, 4, 7], repeat=2)))
def test_feasible_counts_are_the_smallest_of_all_that_exist(asked: tuple[int, int]) -> None:
    """Tried out: r of at most all sources, of seven tokens."""
    exist = []
    for first in range(7, 2, -1):
        exist += [(first, second) for second in range(first, first // 2 - 1, -1)]
    holding = [counts for counts in exist if counts[0] >= asked[0] and counts[1] >= asked[1]]
    assert policy(depth=3, grid=(1, 7)).schedule.round_up(asked) == min(holding)
    assert all(min(holding)[1] <= counts[1] for counts in holding)


def test_a_single_block_has_nothing_to_merge_between() -> None:
    with pytest.raises(InputError, match="tome merges between blocks, the model has one"):
        policy(depth=1)
