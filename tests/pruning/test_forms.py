"""Every policy of POLICIES: its training form and its inference form give the same output for the same selection.

A new policy is covered by its row in POLICIES; it needs nothing here.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.data.region import Region
from edgeprune.model.policy import Select, Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import POLICIES, make_policy
from edgeprune.pruning.selection import select_all, select_top
from tests import models

DEPTH = 4
SHAPE = Shape(192, 12, models.GRID, 11)


# each policy as it comes, and forms of it that have code of their own
FORMS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in POLICIES),
    ("svit", {"reactivation": False}),
    ("svit", {"reactivation": False, "keep": [0.6, 0.3]}),  # the first gate decides for two blocks
    ("svit", {"preservation": False, "keep": [0.5]}),  # one gate for all
    ("svit", {"preservation": False}),
    ("svit", {"gate": "dynamicvit"}),
    ("svit", {"stagger": 4.0}),
    ("cts-svit", {"stagger": 4.0}),
    ("algm", {"proportional": True}),
    ("svit", {"gate": "dynamicvit", "reactivation": False}),
]


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: "-".join((form[0], *form[1])))
def model(request: pytest.FixtureRequest) -> Segmenter:
    name, options = request.param
    return models.model(models.card(name, depth=DEPTH, **options))


def infer(model: Segmenter, image_3HW: Tensor, counts: list[int]) -> tuple[Tensor, list[Tensor]]:
    """The inference form of one frame: logits (K, H/2, W/2), and what was selected; the test ends where the policy has none."""
    if model.policy.not_exportable:
        pytest.skip(model.policy.not_exportable)
    with torch.no_grad():
        x_ND, skips, scores_N = model.trunk(image_3HW.permute(1, 2, 0).to(torch.uint8))
        logits_1KHW, selected_GK = model.tail_with_selections(x_ND, skips, scores_N, counts)
        return logits_1KHW[0], selected_GK


def schedules(model: Segmenter) -> list[list[int]]:
    """Counts that fall, that rise (reactivation), of one token, and with full gates between."""
    gates = len(model.policy.gated)
    patterns = [[20, 12, 5, 3], [3, 10, 17, 8], [1, 1, 1, 1], [models.N, 9, models.N, 9]]
    return [list(model.policy.schedule.round_up(pattern[:gates])) for pattern in patterns] if gates else [[]]


@pytest.mark.parametrize("batch", [1, 3])
def test_training_form_equals_inference_form(model: Segmenter, batch: int) -> None:
    images_B3HW = models.images(batch)
    for counts in schedules(model):
        with torch.no_grad():
            prediction = model(images_B3HW, select_top(model.policy.schedule.candidates(counts)))
        assert [keep_BN.sum(-1).tolist() for keep_BN in prediction.masked.keep_GBN] == [[k] * batch for k in counts]
        for image_3HW, expected in zip(images_B3HW, prediction.raw, strict=True):
            torch.testing.assert_close(infer(model, image_3HW, counts)[0], expected, rtol=1e-3, atol=1e-3)


def test_the_selections_themselves_are_equal(model: Segmenter) -> None:
    image_13HW = models.images(1)
    for counts in schedules(model):
        merged: list[Tensor] = []
        select = select_top(model.policy.schedule.candidates(counts))

        def watched(gate: int, scores_BN: Tensor, select: Select = select, merged: list[Tensor] = merged) -> Tensor:
            mask_BN = select(gate, scores_BN)
            merged.append((scores_BN > -1e3) & (mask_BN == 0))  # what fills the scores up is no candidate
            return mask_BN

        keeps = model(image_13HW, watched).masked.keep_GBN
        selected_GK = infer(model, image_13HW[0], counts)[1]
        # no TopK where every candidate stays
        expected = [
            set((merged_BS if model.policy.schedule.merges_at(gate) else keep_BN)[0].nonzero()[:, 0].tolist())
            for gate, (merged_BS, keep_BN) in enumerate(zip(merged, keeps, strict=True))
            if merged_BS.any()
        ]
        assert [set(kept_K.tolist()) for kept_K in selected_GK] == expected


# policies that merge, on grids whose sides no superpatch divides
MERGING = [name for name in POLICIES if models.policy(name).schedule.merging]
ODD = [
    *((name, {"grid": grid}) for name in MERGING for grid in ((5, 7), (6, 9))),
    ("step", {"grid": (18, 24)}),
    ("combined", {"grid": (18, 24), "levels": [[16, 0.6], [4, 0.1]]}),
]


@pytest.mark.parametrize(
    ("name", "options"), ODD, ids=lambda value: value if isinstance(value, str) else str(value["grid"])
)
def test_both_forms_agree_on_grids_that_cells_do_not_cover(name: str, options: dict[str, Any]) -> None:
    model = models.model(models.card(name, depth=DEPTH, **options))
    schedule, (height, width) = model.policy.schedule, (model.spec.height, model.spec.width)
    image_3HW = torch.from_numpy(models.scene(100, height, width)[0]).permute(2, 0, 1).float()
    for shares in ([0.6, 0.5, 0.45, 0.4, 0.3, 0.2], [0.3] * 6, [0.9, 0.8, 0.3, 0.7, 0.4, 0.1]):
        counts = list(schedule.round_up([round(share * schedule.tokens) for share in shares[: len(schedule.gated)]]))
        with torch.no_grad():
            prediction = model(image_3HW[None], select_top(schedule.candidates(counts)))
        assert [int(keep_BN.sum()) for keep_BN in prediction.masked.keep_GBN] == counts
        torch.testing.assert_close(infer(model, image_3HW, counts)[0], prediction.raw[0], rtol=1e-3, atol=1e-3)


def test_every_token_in_every_block_is_the_dense_model(model: Segmenter) -> None:
    dense = models.model(models.card("dense", depth=DEPTH))
    dense.load_state_dict(model.state_dict(), strict=False)
    image_13HW = models.images(1)
    counts = [models.N] * len(model.policy.gated)
    with torch.no_grad():
        x_ND = dense.embed(image_13HW)[0][0]
        for block in dense.blocks:
            x_ND = block(x_ND)
        if model.policy.gated and not model.policy.not_exportable:
            x_trunk_ND, _, scores_N = model.trunk(image_13HW[0].permute(1, 2, 0).to(torch.uint8))
            tail = list(model.blocks[model.policy.schedule.trunk_depth :])
            assert scores_N is not None
            assert torch.equal(model.policy.gathered(tail, x_trunk_ND, counts, scores_N).x_ND, x_ND)
        # in the training form keys pass through a mask, another kernel of the same attention
        torch.testing.assert_close(model(image_13HW, select_all).raw, dense(image_13HW).raw, rtol=1e-3, atol=1e-3)


def test_both_forms_agree_inside_a_region(model: Segmenter) -> None:
    region = Region(("......", "..##..", ".#####", "####.."))
    model = copy.deepcopy(model)
    if model.policy.not_in_region:
        with pytest.raises(InputError, match="no form that looks at a region alone: .* choose reconstruction=preserve"):
            model.restrict(region)
        return
    model.restrict(region)
    tokens = model.policy.tokens
    assert tokens == (11 if model.policy.cell_side == 1 else 16)
    image_13HW, gates = models.images(1), len(model.policy.gated)
    for pattern in ([8, 5, 3, 2], [tokens] * 4):
        counts = list(model.policy.schedule.round_up(pattern[:gates]))
        with torch.no_grad():
            prediction = model(image_13HW, select_top(model.policy.schedule.candidates(counts)))
        assert [keep_BN.shape for keep_BN in prediction.masked.keep_GBN] == [(1, tokens)] * gates
        assert [int(keep_BN.sum()) for keep_BN in prediction.masked.keep_GBN] == counts
        if not model.policy.not_exportable:
            torch.testing.assert_close(infer(model, image_13HW[0], counts)[0], prediction.raw[0], rtol=1e-3, atol=1e-3)


def test_selection_matters(model: Segmenter) -> None:
    """Guards the tests above: a form that ignored the counts would pass them all."""
    if not model.policy.gated:
        pytest.skip("the dense policy selects nothing")
    image_3HW = models.images(1)[0]
    schedules = (model.policy.schedule.round_up([count] * len(model.policy.gated)) for count in (4, 20))
    few, many = (infer(model, image_3HW, list(counts))[0] for counts in schedules)
    assert (few - many).abs().max() > 0.1


def test_evaluation_repeats_itself_and_keeps_the_targets(model: Segmenter) -> None:
    first, second = model(models.images(2)), model(models.images(2))
    assert torch.equal(first.raw, second.raw)
    shares = [round(float(keep_BN.mean()) * models.N) for keep_BN in first.masked.keep_GBN]
    targets = list(model.policy.schedule.target_counts)
    if model.policy.not_exportable:  # the targets are the most that a count which depends on the frame can be
        assert all(0 < share <= target for share, target in zip(shares, targets, strict=True))
    else:
        assert shares == targets


def test_an_image_is_answered_as_if_it_were_alone(model: Segmenter) -> None:
    images_B3HW = models.images(3)
    counts = model.policy.schedule.round_up([12] * len(model.policy.gated))
    with torch.no_grad():
        together_BKHW = model(images_B3HW, select_top(model.policy.schedule.candidates(counts))).raw
        for image_3HW, expected_KHW in zip(images_B3HW, together_BKHW, strict=True):
            alone_1KHW = model(image_3HW[None], select_top(model.policy.schedule.candidates(counts))).raw
            torch.testing.assert_close(alone_1KHW[0], expected_KHW, rtol=1e-3, atol=1e-3)


def test_counts_are_rounded_up_to_the_smallest_that_hold_those_asked_for(model: Segmenter) -> None:
    gates = len(model.policy.gated)
    for asked in ([20] * gates, list(range(5, 5 + gates)), list(range(20, 20 - gates, -1)), [models.N] * gates):
        counts = model.policy.schedule.round_up(asked)
        assert all(asked_for <= count <= models.N for asked_for, count in zip(asked, counts, strict=True))
        assert model.policy.schedule.round_up(counts) == counts
    assert model.policy.schedule.round_up([models.N] * gates) == (models.N,) * gates


def test_trains_on_crops(model: Segmenter) -> None:
    model.train()
    try:
        prediction = model(models.images(2)[..., :48, :64])
        (prediction.raw.square().mean() + prediction.masked.loss).backward()
    finally:
        model.eval()
    assert [keep_BN.shape for keep_BN in prediction.masked.keep_GBN] == [(2, 12)] * len(model.policy.gated)
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.zero_grad()


def test_unknown_names_and_options_are_refused_with_the_nearest() -> None:
    choices = ", ".join(POLICIES)
    with pytest.raises(InputError, match=f"unknown policy 'svitt'; choices: {choices}; did you mean 'svit'"):
        make_policy(PolicySpec(name="svitt"), SHAPE)
    with pytest.raises(InputError, match="policy svit: unknown key 'temperatur'.*did you mean 'temperature'"):
        make_policy(PolicySpec(name="svit", options={"temperatur": 2.0}), SHAPE)
    with pytest.raises(InputError, match="policy dense: unknown key 'first'"):
        make_policy(PolicySpec(name="dense", options={"first": 3}), SHAPE)


@pytest.mark.parametrize("keep", [[], [0.0], [1.2], [0.5, -0.1]])
def test_keep_ratios_are_shares(keep: list[float]) -> None:
    with pytest.raises(InputError, match="policy svit: keep"):
        make_policy(PolicySpec(name="svit", options={"keep": keep}), SHAPE)


@pytest.mark.parametrize("name", ["svit", "random"])
def test_a_first_gate_behind_the_last_block_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="first=4 leaves no block to gate, the model has 4"):
        make_policy(PolicySpec(name=name, options={"first": 4}), Shape(192, 4, models.GRID, 11))
