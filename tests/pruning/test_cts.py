"""CTS against its paper: what is pure, what merges, what the CNN learns from; superpatches of one size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.selection import select_none, select_over, select_random
from edgeprune.pruning.superpatches import Purity, purity_loss, purity_targets
from tests import models
from tests.pruning.both_forms import both_forms, check_logits


def policy(grid: tuple[int, int] = (24, 32), **options: object) -> Combination:
    made = make_policy(PolicySpec(name="cts", options=options), Shape(192, 12, grid, 11))
    assert isinstance(made, Combination)
    return made


def labels(count: int) -> Tensor:
    """Of the scenes of `models.images`, so small that no cell is pure; the first of each is painted over."""
    labels_BHW = torch.stack([torch.from_numpy(models.scene(100 + index)[1]).long() for index in range(count)])
    labels_BHW[:, :32, :32] = 3
    return labels_BHW


def cells_by_loops(grid: tuple[int, int], side: int) -> list[list[int]]:
    """The patches of each cell, cell by cell."""
    return [
        [(top + row) * grid[1] + left + column for row in range(side) for column in range(side)]
        for top in range(0, grid[0] - side + 1, side)
        for left in range(0, grid[1] - side + 1, side)
    ]


def cts_by_loops(model: Segmenter, image_3HW: Tensor, merging: int) -> Tensor:
    """The logits (K, H/2, W/2) when the `merging` purest cells share a token: a list of tokens through plain blocks."""
    x_BND, skips, view = model.embed(image_3HW[None])
    assert isinstance(model.policy, Combination) and model.policy.purity is not None
    purity = model.policy.purity(view.images_B3HW)[0][0].tolist()
    cells = cells_by_loops(models.GRID, 2)
    purest = sorted(range(len(cells)), key=lambda cell: -purity[cell])[:merging]
    groups = [cells[cell] for cell in purest]
    groups += [[patch] for cell in range(len(cells)) if cell not in purest for patch in cells[cell]]
    x_1MD = torch.stack([x_BND[0][group].mean(0) for group in groups])[None]
    for block in model.blocks:
        x_1MD = block(x_1MD)
    full_ND = torch.zeros_like(x_BND[0])
    for row, group in enumerate(groups):
        full_ND[group] = x_1MD[0, row]
    return model.head(model.norm(full_ND)[None], models.GRID, skips)[0]


@pytest.mark.parametrize("merging", [1, 3, 6])
@torch.no_grad()
def test_both_forms_are_the_plain_network_on_a_shorter_list_of_tokens(merging: int) -> None:
    model = models.model(models.card("cts"))
    for image_3HW, forms in both_forms(model, [models.N - 3 * merging]):
        check_logits(forms, cts_by_loops(model, image_3HW, merging))


# ------------------------------------------------------------------------------------------------ purity


def test_a_cell_is_pure_that_holds_one_class_or_ignore_alone() -> None:
    labels_BHW = torch.full((1, 64, 96), 4)
    labels_BHW[0, 40, 5] = 7  # one pixel of another class
    labels_BHW[0, :32, 32:64] = 255  # ignore alone
    labels_BHW[0, 0, 64] = 255  # one class and ignore
    assert purity_targets(labels_BHW, 32).tolist() == [[1, 1, 0, 0, 1, 1]]


@pytest.mark.parametrize("side", [2, 4])
def test_targets_are_what_a_look_at_each_cell_gives(side: int) -> None:
    labels_BHW = labels(3)
    expected = [
        [
            float(len(np.unique(labels_HW[top : top + side * 16, left : left + side * 16])) == 1)
            for top in range(0, 64 - side * 16 + 1, side * 16)
            for left in range(0, 96 - side * 16 + 1, side * 16)
        ]
        for labels_HW in labels_BHW.numpy()
    ]
    assert purity_targets(labels_BHW, side * 16).tolist() == expected
    assert side == 4 or 0 < np.mean(expected) < 1


def test_the_loss_is_binary_cross_entropy() -> None:
    model = models.model(models.card("cts"))
    view = replace(model.embed(models.images(3))[2], labels_BHW=labels(3))
    assert isinstance(model.policy, Combination) and model.policy.purity is not None
    logits_BS = model.policy.purity(view.images_B3HW)[0]
    p_BS, target_BS = torch.sigmoid(logits_BS), purity_targets(labels(3), 32)
    expected = -torch.where(target_BS > 0, p_BS.log(), (1 - p_BS).log()).mean()
    torch.testing.assert_close(purity_loss([logits_BS], [2], view), expected)
    assert purity_loss([logits_BS], [2], replace(view, labels_BHW=None)) == 0


def test_the_cnn_and_the_transformer_learn_apart() -> None:
    model = models.model(models.card("cts")).train()
    for from_task in (True, False):
        model.zero_grad()
        prediction = model(models.images(2), None, labels(2))
        (prediction.raw.square().mean() if from_task else prediction.masked.loss).backward()
        for name, parameter in model.named_parameters():
            learns = parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
            assert learns == (name.startswith("policy.") != from_task) or name.endswith("norm.bias"), name


def test_the_cnn_costs_less_than_three_percent_of_a_vit_tiny() -> None:
    macs = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d | nn.Linear):
            macs += output.numel() * module.weight[0].numel()

    purity = Purity([2, 4, 8]).eval()
    for module in purity.modules():
        module.register_forward_hook(count)
    purity(torch.zeros(1, 3, 384, 512))
    tokens, width, depth = 24 * 32, 192, 12
    vit_tiny = depth * (12 * width**2 * tokens + 2 * tokens**2 * width)
    assert 10e6 < macs < 0.01 * vit_tiny


# ------------------------------------------------------------------------------------------------ counts and options


def test_every_merged_cell_takes_three_tokens() -> None:
    made = policy(keep=0.5)
    assert made.gated == (0,) and made.schedule.trunk_depth == 0
    assert made.schedule.target_shares == pytest.approx((0.5,)) and made.schedule.target_counts == (384,)
    assert (
        made.schedule.round_up([383]) == (384,)
        and made.schedule.round_up([768]) == (768,)
        and made.schedule.round_up([1]) == (192,)
    )
    assert made.schedule.candidate_shares == pytest.approx((64 / 192,))


def test_a_frame_needs_the_tokens_that_thresholds_leave_it() -> None:
    model = models.model(models.card("cts"))
    for index in range(4):
        with torch.no_grad():
            scores_S = model.trunk(torch.from_numpy(models.frames(1, 100 + index)[0]))[2]
        assert scores_S is not None
        threshold = float(scores_S.sort().values[2:4].mean())
        keep_1N = model(models.images(1, 100 + index), select_over([threshold])).masked.keep_GBN[0]
        assert int(model.policy.required_tokens(scores_S, [threshold])) == int(keep_1N.sum())


def test_random_draws_as_many_other_cells() -> None:
    model = models.model(models.card("cts"))
    masked = [
        model(
            models.images(2), select_random(model.policy.schedule.candidates([15]), torch.Generator().manual_seed(seed))
        ).masked
        for seed in range(3)
    ]
    assert all((run.keep_GBN[0].sum(-1) == 15).all() for run in masked)
    assert len({tuple(run.keep_GBN[0].flatten().tolist()) for run in masked}) > 1
    assert (model(models.images(2), select_none).masked.keep_GBN[0].sum(-1) == 6).all()


def test_an_odd_crop_leaves_its_last_row_and_column_alone() -> None:
    model = models.model(models.card("cts"))
    masked = model(models.images(2)[..., :48, :80], select_none).masked
    groups_HW = masked.group_GBN[0][0].view(3, 5)
    assert groups_HW.tolist() == [[0, 0, 2, 2, 4], [0, 0, 2, 2, 9], [10, 11, 12, 13, 14]]


def test_the_last_row_of_an_odd_grid_stays_single() -> None:
    schedule = policy((15, 20), keep=0.25).schedule
    assert schedule.target_counts == (7 * 10 + 20,) and schedule.target_shares == pytest.approx((0.3,))
    assert policy((15, 20)).schedule.target_counts == (168,)


def test_options_that_fit_no_model_are_refused() -> None:
    with pytest.raises(InputError, match="1x20 patches holds no whole 2x2; sides that fit: none"):
        policy((1, 20))
    with pytest.raises(InputError, match="keep"):
        policy(keep=0.2)
