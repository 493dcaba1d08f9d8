"""Merging before the network with gates inside it, against a list of tokens kept by loops; and what each part learns from."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.selection import select_none, select_top
from tests import models
from tests.pruning.both_forms import both_forms, check_logits
from tests.pruning.test_cts import cells_by_loops, labels


def policy(grid: tuple[int, int] = (24, 32), **options: object) -> Combination:
    made = make_policy(PolicySpec(name="cts-svit", options=options), Shape(192, 12, grid, 11))
    assert isinstance(made, Combination)
    return made


def combined(**options: Any) -> tuple[Segmenter, Combination]:
    model = models.model(models.card("cts-svit", **options))
    assert isinstance(model.policy, Combination)
    return model, model.policy


def by_loops(model: Segmenter, image_3HW: Tensor, merging: int, counts: list[int]) -> Tensor:
    """The logits (K, H/2, W/2): the `merging` purest cells share a token, then each gate keeps the best of the list; what it
    lets go waits as it is, and may be taken by the next."""
    assert (
        isinstance(model.policy, Combination)
        and model.policy.purity is not None
        and model.policy.gate_options is not None
    )
    x_BND, skips, view = model.embed(image_3HW[None])
    purity = model.policy.purity(view.images_B3HW)[0][0].tolist()
    cells = cells_by_loops(models.GRID, 2)
    purest = sorted(range(len(cells)), key=lambda cell: -purity[cell])[:merging]
    groups = [cells[cell] for cell in purest]
    groups += [[patch] for cell in range(len(cells)) if cell not in purest for patch in cells[cell]]
    tokens = [x_BND[0][group].mean(0) for group in groups]
    for index, block in enumerate(model.blocks):
        gate = index - model.policy.gate_options.first
        taken = list(range(len(tokens)))
        if gate >= 0:
            scores = [float(model.policy.gates[gate](token_D)) for token_D in tokens]
            taken = sorted(taken, key=lambda row: -scores[row])[: counts[gate]]
        for row, new_D in zip(taken, block(torch.stack([tokens[row] for row in taken])), strict=True):
            tokens[row] = new_D
    full_ND = torch.zeros_like(x_BND[0])
    for group, token_D in zip(groups, tokens, strict=True):
        full_ND[group] = token_D
    return model.head(model.norm(full_ND)[None], models.GRID, skips)[0]


@pytest.mark.parametrize(("merging", "counts"), [(3, [9, 4]), (3, [2, 15]), (6, [6, 1]), (0, [10, 20]), (2, [18, 18])])
@torch.no_grad()
def test_both_forms_are_the_plain_network_on_a_list_of_tokens(merging: int, counts: list[int]) -> None:
    model, made = combined()
    schedule = [models.N - 3 * merging, *counts]
    assert made.schedule.round_up(schedule) == tuple(schedule)
    for image_3HW, forms in both_forms(model, schedule):
        check_logits(forms, by_loops(model, image_3HW, merging, counts))


def test_patches_of_a_merged_cell_stay_equal_and_share_every_decision() -> None:
    model, _ = combined()
    model.train()
    torch.manual_seed(0)
    masked = model(models.images(2)).masked
    owner_BN = masked.group_GBN[0]
    assert (owner_BN != torch.arange(models.N)).any()
    of_owner_BND = masked.x_BND.gather(1, owner_BN[..., None].expand_as(masked.x_BND))
    torch.testing.assert_close(masked.x_BND, of_owner_BND)
    for keep_BN in masked.keep_GBN:  # one of each group counts
        assert (keep_BN.detach()[owner_BN != torch.arange(models.N)] == 0).all()


def test_the_ratio_is_of_the_tokens_that_merging_leaves() -> None:
    model, made = combined(keep=[0.5], weight=1.0)
    select = select_top(made.schedule.candidates([models.N - 3 * 4, 6, 3]))  # of 12: a half, and a quarter
    loss = model(models.images(2), select).masked.loss
    assert loss.item() == pytest.approx((0.0 + 0.25**2) / 2, abs=1e-6)
    assert made.schedule.target_shares == pytest.approx((0.56, 0.28, 0.28))


def test_schedules_count_merged_tokens() -> None:
    made = policy(merged=0.5, keep=[0.7, 0.49, 0.343])
    assert made.gated == (0, *range(3, 12)) and made.schedule.trunk_depth == 0 and made.schedule.chosen_by == 0
    counts = made.schedule.target_counts
    assert counts[0] == 384 and counts[1] == round(0.35 * 768) and counts[9] == round(0.5 * 0.343 * 768)
    assert (
        made.schedule.block_counts(counts)[:3] == (384, 384, 384) and made.schedule.block_counts(counts)[3] == counts[1]
    )
    # a gate that wants more than merging leaves makes fewer cells merge
    assert made.schedule.round_up([200, 500, *[100] * 8])[:2] == (501, 500)
    assert made.schedule.round_up([768] * 10) == (768,) * 10


def test_what_gates_and_cnn_learn_from() -> None:
    """The CNN from labels alone; the gates from the task and the ratio."""
    model, _ = combined()
    model.train()
    for from_task in (True, False):
        model.zero_grad()
        torch.manual_seed(0)
        prediction = model(models.images(2), None, labels(2))
        (prediction.raw.square().mean() if from_task else prediction.masked.loss).backward()
        for name, parameter in model.policy.named_parameters():
            learns = parameter.grad is not None and float(parameter.grad.abs().sum()) > 0
            if name.startswith("gates."):
                assert learns or "norm.bias" in name, (name, from_task)
            else:
                assert learns != from_task or name.endswith("norm.bias"), (name, from_task)


def test_a_share_of_the_batch_keeps_every_token() -> None:
    model, _ = combined(full=0.5)
    model.policy.train()
    torch.manual_seed(0)
    masked = model(models.images(4)).masked
    for keep_BN in masked.keep_GBN:
        assert (keep_BN[:2] == 1).all() and (keep_BN[2:].sum(-1) < models.N).all()


def test_a_quarter_of_the_batch_has_fewer_tokens_where_a_build_is_to_add_small_buckets() -> None:
    """The last image; its counts are drawn anew, and the gates' rates are those of the others."""
    model, _ = combined(least=0.5)
    model.policy.train()
    merged, fewest = model.policy.schedule.target_counts[0], model.policy.schedule.counts_at(0.5)[0]
    assert fewest < merged
    torch.manual_seed(0)
    drawn = [model(models.images(4)).masked for _ in range(8)]
    lefts = {int(masked.keep_GBN[0][3].sum()) for masked in drawn}
    assert len(lefts) > 1 and fewest <= min(lefts) < merged and max(lefts) <= merged
    assert all(int(masked.keep_GBN[0][image].sum()) == merged for masked in drawn for image in range(3))
    model.policy.eval()
    assert int(model(models.images(4)).masked.keep_GBN[0][3].sum()) == merged


def test_bypassing_everything_leaves_the_merged_tokens_of_the_first_blocks() -> None:
    model, _ = combined()
    masked = model(models.images(1), select_none).masked
    assert [float(keep_BN.sum()) for keep_BN in masked.keep_GBN] == [6.0, 0.0, 0.0]


def test_ratios_are_of_what_an_odd_grid_leaves() -> None:
    shares = policy((15, 20), merged=0.25, keep=[0.5]).schedule.target_shares
    assert shares == pytest.approx((0.3, *[0.15] * 9))


def test_a_share_that_cells_never_leave_is_refused() -> None:
    with pytest.raises(InputError, match="policy cts-svit: merged"):
        policy(merged=0.2)
