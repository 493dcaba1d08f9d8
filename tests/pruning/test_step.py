"""STEP: superpatches of several sizes, the largest first, with exits behind; each half alone; its defaults on any grid."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import load_target
from edgeprune.data.region import Region
from edgeprune.export.graphs import export_family, export_trunk
from edgeprune.export.lint import lint_graph
from edgeprune.export.parity import measure_parity
from edgeprune.export.simplify import kinds_of
from edgeprune.model.checkpoint import Card
from edgeprune.model.policy import EXCLUDED_SCORE, Bucket, Select, Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.methods import make_policy, settle
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.selection import select_over, select_top
from edgeprune.quantize.calibrate import calibrate_thresholds
from tests import models

TOKENS = 256


def policy(depth: int = 12, grid: tuple[int, int] = (24, 32), **options: object) -> Combination:
    made = make_policy(PolicySpec(name="step", options=options), Shape(192, depth, grid, 11))
    assert isinstance(made, Combination)
    return made


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


def test_graphs_answer_on_a_grid_that_cells_do_not_cover() -> None:
    """5x7 patches: one of 4x4, six of 2x2, eleven in none."""
    step = models.model(models.card("step", depth=1, grid=(5, 7), exits=[]))
    counts = step.policy.schedule.round_up([20, 14])
    assert counts == (20, 14)
    frames_FHW3 = np.stack([models.scene(seed, 80, 112)[0] for seed in (100, 101)])
    family = export_family(step, [Bucket("k14", counts)], [0.0, 0.0], "tensorrt")
    (row,) = measure_parity(step, [Bucket("k14", counts)], "fp32", family, frames_FHW3, 1)
    assert row.label_agreement > 0.9999 and row.selection_agreement == 1.0 and row.max_abs < 0.05
    for name, proto in family.named().items():
        assert lint_graph(name, proto, load_target("jetson-orin").lint) == []


def test_in_a_region_sides_that_do_not_cover_the_frame_merge_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """4x6 patches hold one superpatch of 4x4 beside a strip; a region is made of those of 2x2."""
    step = models.model(models.card("step", depth=1, exits=[]))
    assert isinstance(step.policy, Combination) and step.policy.sides == (4, 2)
    with caplog.at_level("INFO"):
        step.restrict(Region(("......", "..##..", "######", "######")))
    assert "4x4 patches do not cover the frame: in a region no superpatch is as large" in caplog.text
    thresholds, _ = calibrate_thresholds(step, models.images(2))
    counts = step.policy.schedule.target_counts
    assert (len(thresholds), thresholds[0], counts) == (2, 0.0, (16, 7))
    trunk = export_trunk(step, thresholds)
    assert not any(0 in tensor.dims for tensor in trunk.graph.initializer)
    assert kinds_of(trunk)["scores"][1] == (4,)


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
        superpatches.gated == (0, 0, 0, 0)
        and superpatches.schedule.trunk_depth == 0
        and superpatches.schedule.chosen_by == 3
    )
    assert exits.gated == (6, 8) and exits.schedule.trunk_depth == 6 and exits.schedule.chosen_by == 0
    assert policy().gated == (0, 0, 0, 0, 6, 8)
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
def test_sizes_of_which_no_whole_one_fits_are_refused_with_those_that_do(name: str, options: dict[str, Any]) -> None:
    spec = PolicySpec(name=name, options=options)
    for grid in ((24, 32), (18, 24), (17, 37)):
        assert make_policy(spec, Shape(192, 12, grid, 11)).gated[:2] == (0, 0)
    with pytest.raises(
        InputError, match=r"15x20 patches holds no whole 16x16; sides that fit: 8, 4, 2\. .*larger input"
    ):
        make_policy(spec, Shape(192, 12, (15, 20), 11))
    with pytest.raises(InputError, match="1x20 patches holds no whole 16x16; sides that fit: none"):
        make_policy(spec, Shape(192, 12, (1, 20), 11))


def test_levels_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="levels=.*each side once, shares of 1 together at most"):
        policy(levels=[[2, 0.7], [4, 0.4]])
    with pytest.raises(InputError, match="levels"):
        policy(levels=[[3, 0.5]])


@pytest.mark.parametrize(
    ("grid", "sides"),
    [
        ((64, 64), (16, 8, 4, 2)),
        ((24, 32), (16, 8, 4, 2)),
        ((12, 16), (8, 4, 2)),
        ((18, 24), (16, 8, 4, 2)),
        ((15, 20), (8, 4, 2)),
        ((37, 37), (16, 8, 4, 2)),
    ],
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


def test_levels_that_were_written_mean_what_they_meant() -> None:
    """On 24x32 patches the default had no 16x16; a tenth of the image is less than one, so the counts are the same."""
    before = policy(levels=[[8, 0.301], [4, 0.2], [2, 0.15]]).schedule
    assert before.target_counts == (579, 399, 312, 248, 186)
    assert policy().schedule.target_counts == (768, *before.target_counts)


def test_where_cells_reach_no_further_more_tokens_remain() -> None:
    schedule = policy(grid=(3, 5)).schedule  # two cells of 2x2 in 15 patches
    assert schedule.target_shares[0] == pytest.approx(9 / 15) and schedule.target_counts[0] == 9


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
