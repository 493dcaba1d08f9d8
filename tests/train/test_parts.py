"""The parts of the training loop: losses, optimiser, schedule, the plan of batches, augmentation, averaged weights."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgeprune.base.errors import InputError
from edgeprune.data import Sample
from edgeprune.data.preprocess import Preprocess
from edgeprune.train.augment import Augment
from edgeprune.train.batches import Mixture, Plan, load_batches, open_mix
from edgeprune.train.clock import Clock
from edgeprune.train.loop import _update_average, phase_due
from edgeprune.train.losses import (
    class_weights,
    cross_entropy,
    distance_to_teacher,
    distance_to_tokens,
    jaccard_distance,
)
from edgeprune.train.optimiser import learning_rate, make_optimiser, set_learning_rate
from edgeprune.train.progress import Progress
from edgeprune.train.recipe import AugmentSpec, Mix, Phase
from tests import models


def phase(**changes: Any) -> Phase:
    return Phase.model_validate({"kind": "dense", "data": [{"data": "street"}], "frames": 8} | changes)


# ------------------------------------------------------------------------------------------------ losses


def test_class_weights() -> None:
    assert class_weights([1, 2, 3], 0) is None
    weights_K = class_weights([100, 25, 1], 0.5)
    assert weights_K is not None
    torch.testing.assert_close(weights_K / weights_K[0], torch.tensor([1.0, 2.0, 10.0]))
    assert weights_K.mean().item() == pytest.approx(1)
    absent_K = class_weights([100, 0], 1.0)
    assert absent_K is not None and absent_K.isfinite().all()


def test_cross_entropy_takes_the_labels_at_the_logits_pixels_and_leaves_out_ignored_ones() -> None:
    torch.manual_seed(0)
    logits_BKHW = torch.randn(2, 3, 4, 6)
    labels_BHW = torch.randint(0, 3, (2, 8, 12))
    labels_BHW[0, :4] = 255
    at_BHW = labels_BHW[:, 1::2, 1::2]
    logp_BKHW = logits_BKHW.log_softmax(1)
    taken = [
        -logp_BKHW[b, at_BHW[b, y, x], y, x].item()
        for b in range(2) for y in range(4) for x in range(6) if at_BHW[b, y, x] != 255
    ]  # fmt: skip
    got = cross_entropy(logits_BKHW, labels_BHW, 255, None, 0.0)
    assert got.item() == pytest.approx(np.mean(taken), rel=1e-5)
    weighted = cross_entropy(logits_BKHW, labels_BHW, 255, torch.tensor([1.0, 0.0, 0.0]), 0.0)
    of_class_0 = [
        -logp_BKHW[b, 0, y, x].item()
        for b in range(2) for y in range(4) for x in range(6) if at_BHW[b, y, x] == 0
    ]  # fmt: skip
    assert weighted.item() == pytest.approx(np.mean(of_class_0), rel=1e-5)
    assert cross_entropy(logits_BKHW, labels_BHW, 255, None, 0.1) != got


def test_a_batch_of_ignored_pixels_teaches_nothing_and_breaks_nothing() -> None:
    logits_BKHW = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits_BKHW, torch.full((1, 8, 8), 255), 255, None, 0.1)
    loss.backward()
    assert loss == 0 and logits_BKHW.grad is not None and (logits_BKHW.grad == 0).all()


def test_jaccard_distance_is_one_minus_the_mean_soft_iou_of_the_classes_present() -> None:
    torch.manual_seed(0)
    logits_BKHW = torch.randn(2, 4, 4, 6, requires_grad=True)
    labels_BHW = torch.randint(0, 3, (2, 8, 12))  # class 3 is nowhere: it can't be hit, and doesn't count
    labels_BHW[1, :, :6] = 11
    at_BHW = labels_BHW[:, 1::2, 1::2]
    p_BKHW = logits_BKHW.softmax(1)
    ious = []
    for k in range(3):
        both = size = of_p = 0.0
        for b in range(2):
            for y in range(4):
                for x in range(6):
                    if at_BHW[b, y, x] != 11:
                        hit = float(at_BHW[b, y, x] == k)
                        both += p_BKHW[b, k, y, x].item() * hit
                        size += hit
                        of_p += p_BKHW[b, k, y, x].item()
        ious.append(both / (size + of_p - both))
    got = jaccard_distance(logits_BKHW, labels_BHW, 11)
    assert got.item() == pytest.approx(1 - np.mean(ious), rel=1e-5)
    got.backward()
    assert logits_BKHW.grad is not None
    assert (logits_BKHW.grad[1, :, :, :3] == 0).all() and (logits_BKHW.grad[0] != 0).any()


def test_jaccard_distance_of_a_perfect_answer_is_zero_and_of_ignored_pixels_nothing() -> None:
    labels_BHW = torch.randint(0, 3, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    perfect_BKHW = F.one_hot(labels_BHW[:, 1::2, 1::2], 3).permute(0, 3, 1, 2) * 50.0
    assert jaccard_distance(perfect_BKHW, labels_BHW, 11).item() == pytest.approx(0, abs=1e-5)
    assert jaccard_distance(perfect_BKHW, torch.full((1, 8, 8), 11), 11) == 0


def test_distance_to_the_teacher_is_the_kl_divergence_from_it() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    p, q = teacher.softmax(1), student.softmax(1)
    expected = (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(distance_to_teacher(student, teacher), expected)
    assert distance_to_teacher(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_distance_to_the_teachers_tokens_is_relative_to_their_size() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 4), torch.randn(2, 6, 4)
    pairs = [(float(s), float(t)) for s, t in zip(student.flatten(), teacher.flatten(), strict=True)]
    expected = sum((s - t) ** 2 for s, t in pairs) / sum(t**2 for _, t in pairs)
    assert distance_to_tokens(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert distance_to_tokens(3 * student, 3 * teacher).item() == pytest.approx(expected, rel=1e-5)
    assert distance_to_tokens(teacher, teacher) == 0


# ------------------------------------------------------------------------------------------------ optimiser


def test_every_parameter_is_in_one_group_with_its_layers_rate_and_decay() -> None:
    model = models.model(models.card(depth=3, quantized=True))
    optimiser = make_optimiser(model, phase(layer_decay=0.5, weight_decay=0.1, policy_lr=20))
    set_learning_rate(optimiser, 1.0)
    group_of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(group_of) == len(trained)

    def group(name: str) -> tuple[float, float]:
        found = group_of[id(trained[name])]
        return found["lr"], found["weight_decay"]

    assert group("stem.proj.weight") == (0.5**4, 0.1)
    assert group("pos_embed") == (0.5**4, 0.0)
    assert group("blocks.0.attn.qkv.weight") == (0.5**3, 0.1)
    assert group("blocks.2.mlp.fc1.weight") == (0.5, 0.1)
    assert group("blocks.2.norm1.weight") == (0.5, 0.0)
    assert group("blocks.2.mlp.fc1.bias") == (0.5, 0.0)
    assert group("head.classify.weight") == (1.0, 0.1)
    assert group("policy.gates.0.fc1.weight") == (20.0, 0.1)
    scales = [name for name in trained if "_quantizer." in name]
    assert len(scales) == 24 and all(group(name)[1] == 0.0 for name in scales)


def test_the_rate_warms_up_and_follows_half_a_cosine() -> None:
    spec = phase(lr=1.0, warmup=0.1)
    rates = [learning_rate(spec, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0) and rates[55] == pytest.approx(0.505)
    assert rates[99] == pytest.approx(0.01, abs=0.001)
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert learning_rate(phase(lr=1.0, warmup=0.0), 0, 1) == 1.0


# ------------------------------------------------------------------------------------------------ plan


def mixes(*shares: float) -> list[Mix]:
    return [Mix(data="street", share=share) for share in shares]


def test_shares_are_met() -> None:
    plan = Plan(mixes(3, 1), [50, 70], batch=8, steps=500, seed=0)
    counts = Counter(split for batch in plan for split, _ in batch)
    assert counts[0] / (counts[0] + counts[1]) == pytest.approx(0.75, abs=0.02)
    assert all(len(batch) == 8 for batch in plan) and len(plan) == 500


def test_every_sample_comes_once_per_epoch_in_a_new_order() -> None:
    plan = Plan(mixes(1, 1), [13, 5], batch=4, steps=60, seed=0)
    drawn = [key for batch in plan for key in batch]
    for split, size in enumerate((13, 5)):
        indices = [index for found, index in drawn if found == split]
        epochs = [indices[start : start + size] for start in range(0, len(indices) - size + 1, size)]
        assert len(epochs) > 5
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 3


def test_the_plan_depends_on_the_seed_alone() -> None:
    def batches(seed: int, start: int = 0) -> list[list[tuple[int, int]]]:
        return list(Plan(mixes(1, 2), [13, 5], batch=4, steps=20, seed=seed, start=start))

    assert batches(0) == batches(0) != batches(1)


@pytest.mark.parametrize("start", [0, 1, 7, 20])
def test_a_resumed_plan_goes_on_with_the_same_batches(start: int) -> None:
    whole = Plan(mixes(1, 2), [13, 5], batch=4, steps=20, seed=3)
    rest = Plan(mixes(1, 2), [13, 5], batch=4, steps=20, seed=3, start=start)
    assert list(rest) == list(whole)[start:] and len(rest) == 20 - start
    assert rest[start - 1] == whole[start - 1]


def test_batches_are_the_plans_samples_at_the_models_size(tmp_path: Path) -> None:
    data = models.write_street(tmp_path)
    sets, splits = open_mix([Mix(data=data), Mix(data=data, split="val")], tmp_path / "cache")
    plan = Plan(mixes(1, 1), [len(split) for split in splits], batch=3, steps=2, seed=0)
    for keys, (images_B3HW, labels_BHW) in zip(
        plan, load_batches(Mixture(splits, Preprocess(64, 96), 11), plan, 0, models.quiet), strict=True
    ):
        assert images_B3HW.dtype == labels_BHW.dtype == torch.uint8
        for (split, index), image_3HW, label_HW in zip(keys, images_B3HW, labels_BHW, strict=True):
            image_HW3, expected_HW = models.scene((0, 5000)[split] + index)
            assert np.array_equal(image_3HW.permute(1, 2, 0), image_HW3) and np.array_equal(label_HW, expected_HW)
    assert list((tmp_path / "cache").iterdir())
    small, _ = Mixture(splits, Preprocess(32, 48), 11)[0, 0]
    assert small.shape == (3, 32, 48) and sets[0].names == models.STREET.names


def test_wide_frames_are_trained_on_as_a_run_sees_them() -> None:
    """Between bars of which no label is learnt, not stretched."""
    image_HW3, label_HW = (part[:48] for part in models.scene(0))  # 2:1 in 3:2
    small, label_hw = Mixture([[Sample("wide", image_HW3, label_HW)]], Preprocess(32, 48), 11)[0, 0]  # type: ignore[list-item]
    assert np.array_equal(small.permute(1, 2, 0), Preprocess(32, 48).fit(image_HW3))
    bars_hw = np.ones((32, 48), bool)
    bars_hw[4:28] = False
    assert (label_hw.numpy()[bars_hw] == 11).all() and set(np.unique(label_hw[4:28])) <= set(np.unique(label_HW))


def test_data_sets_of_different_classes_are_not_mixed(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    from_street = models.write_street(tmp_path)
    other.write_text(Path(from_street).read_text().replace("name: street", "name: other").replace("- sky", "- heaven"))
    with pytest.raises(InputError, match="data sets street and other have different classes and can't be mixed"):
        open_mix([Mix(data=from_street), Mix(data=str(other))], None)


# ------------------------------------------------------------------------------------------------ augmentation

STILL = {"scale": (1.0, 1.0), "flip": 0.0, "colour": 0.0, "blur": 0.0, "noise": 0.0, "grey": 0.0}


def levels(batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose red channel is 20 times the label, in cells of 16 pixels."""
    labels_BHW = torch.randint(1, 11, (batch, 4, 6)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    images_B3HW = torch.stack([labels_BHW * 20, labels_BHW * 0 + 128, labels_BHW * 0 + 128], 1)
    return images_B3HW.to(torch.uint8), labels_BHW.to(torch.uint8)


@pytest.mark.parametrize("crop", [None, (48, 64)])
def test_labels_move_with_their_pixels(crop: tuple[int, int] | None) -> None:
    torch.manual_seed(0)
    images_B3HW, labels_BHW = levels(8)
    spec = AugmentSpec.model_validate(STILL | {"scale": (0.6, 2.0), "flip": 0.5})
    images_B3HW, labels_BHW = Augment(spec, (64, 96), crop, 255)(images_B3HW, labels_BHW)
    assert images_B3HW.shape == (8, 3, *(crop or (64, 96))) and labels_BHW.shape == (8, *(crop or (64, 96)))
    # away from edges, where bilinear and nearest agree
    flat_BHW = (
        -F.max_pool2d(-labels_BHW[:, None].float(), 5, 1, 2)[:, 0]
        == F.max_pool2d(labels_BHW[:, None].float(), 5, 1, 2)[:, 0]
    )
    inside_BHW = (flat_BHW & (labels_BHW != 255))[:, 2:-2, 2:-2]
    assert inside_BHW.float().mean() > 0.2
    difference_BHW = (images_B3HW[:, 0] - labels_BHW * 20).abs()[:, 2:-2, 2:-2]
    assert difference_BHW[inside_BHW].max() < 2


def test_a_flip_flips_both() -> None:
    images_B3HW, labels_BHW = levels(2)
    augment = Augment(AugmentSpec.model_validate(STILL | {"flip": 1.0}), (64, 96), None, 255)
    labels_BHW[..., :48], images_B3HW[:, 0, :, :48] = 1, 20
    labels_BHW[..., 48:], images_B3HW[:, 0, :, 48:] = 9, 180
    torch.manual_seed(0)
    images_B3HW, flipped_BHW = augment(images_B3HW, labels_BHW)
    seen_BHW = torch.where(flipped_BHW == 255, -1, flipped_BHW)
    for column in (2, 93):  # shifted by a tenth at most: the sides have swapped
        inside = seen_BHW[:, 20:44, column]
        expected = 9 if column < 48 else 1
        assert ((inside == expected) | (inside == -1)).all()


@pytest.mark.parametrize("crop", [None, (32, 48)])
def test_windows_are_of_the_scale_and_never_leave_the_frame(crop: tuple[int, int] | None) -> None:
    """A frame whose levels tell where a pixel was: how far a window reaches, and that all of it shows the frame."""
    across_HW = torch.linspace(0, 1, 96).expand(64, 96)
    images_B3HW = (torch.stack((across_HW, across_HW, across_HW)) * 255).byte().expand(32, 3, 64, 96)
    labels_BHW = torch.ones(32, 64, 96, dtype=torch.uint8)
    torch.manual_seed(0)
    for scale, largest in ((2.0, 0.5), (1.0, 1.0)):
        spec = AugmentSpec.model_validate(STILL | {"scale": (scale, scale)})
        shown_B3HW, moved_BHW = Augment(spec, (64, 96), crop, 255)(images_B3HW, labels_BHW)
        assert (moved_BHW == 1).all()
        reach_B = (shown_B3HW[:, 0].amax((1, 2)) - shown_B3HW[:, 0].amin((1, 2))) / 255
        expected = largest * (0.5 if crop else 1.0)
        assert expected / 1.12 < reach_B.mean() < expected * 1.12
        middle_B = shown_B3HW[:, 0].mean((1, 2)) / 255
        assert expected == 1.0 or middle_B.min() < 0.4 < 0.6 < middle_B.max()  # windows from all over the frame


def test_ignored_pixels_stay_ignored_and_class_0_stays_class_0() -> None:
    images_B3HW = torch.full((2, 3, 64, 96), 128, dtype=torch.uint8)
    labels_BHW = torch.zeros(2, 64, 96, dtype=torch.uint8)
    labels_BHW[:, 32:] = 11
    torch.manual_seed(0)
    _, moved_BHW = Augment(AugmentSpec.model_validate(STILL), (64, 96), None, 11)(images_B3HW, labels_BHW)
    assert set(moved_BHW.unique().tolist()) == {0, 11}
    assert moved_BHW[:, 24, 40].tolist() == [0, 0] and moved_BHW[:, 44, 40].tolist() == [11, 11]


def test_colour_changes_keep_type_and_range_and_leave_labels_alone() -> None:
    torch.manual_seed(0)
    images_B3HW, labels_BHW = levels(16)
    spec = AugmentSpec(scale=(1.0, 1.0), flip=0.0, colour=1.0, blur=1.0, noise=1.0, grey=0.5)
    changed_B3HW, moved_BHW = Augment(spec, (64, 96), None, 255)(images_B3HW, labels_BHW)
    assert changed_B3HW.dtype == torch.float32 and moved_BHW.dtype == torch.int64
    assert changed_B3HW.min() >= 0 and changed_B3HW.max() <= 255 and changed_B3HW.max() > 100
    assert set(moved_BHW.unique().tolist()) <= {*range(1, 11), 255}
    assert (changed_B3HW[:, 1] - 128).abs().mean() > 5


def test_the_same_seed_augments_the_same() -> None:
    images_B3HW, labels_BHW = levels()
    augment = Augment(AugmentSpec(), (64, 96), None, 255)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(augment(images_B3HW, labels_BHW))
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][0], runs[2][0])


# ------------------------------------------------------------------------------------------------ averaged weights


def test_the_average_follows_the_weights_faster_at_first() -> None:
    model = models.model(models.card("dense", depth=1))
    average = {key: value.clone() for key, value in model.state_dict().items()}
    key, expected = "norm.bias", model.norm.bias.detach().clone()
    for step in range(30):
        with torch.no_grad():
            model.norm.bias.add_(1)
        decay = min(0.9, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * model.norm.bias.detach()
        _update_average(average, model, 0.9, step)
        torch.testing.assert_close(average[key], expected)
    counters = [value for key, value in average.items() if key.endswith("num_batches_tracked")]
    assert counters and all(not counter.is_floating_point() for counter in counters)
    empty: dict[str, torch.Tensor] = {}
    _update_average(empty, model, 0.0, 0)
    assert empty == {}


# ------------------------------------------------------------------------------------------------ clock


def test_validation_falls_evenly_and_on_the_last_step() -> None:
    assert [step for step in range(1, 11) if phase_due(step, 10, 4)] == [3, 5, 8, 10]
    assert [step for step in range(1, 4) if phase_due(step, 3, 10)] == [1, 2, 3]
    assert not any(phase_due(step, 10, 0) for step in range(1, 11))


def test_the_clock_counts_on_from_a_resumed_phase() -> None:
    progress = Progress(step=5, fingerprint="", seconds=100.0)
    clock = Clock(progress, 10)
    progress.step = 6
    clock.tick(2.0, 0.5)
    clock.tick(4.0, 0.7)
    assert progress.seconds >= 100.0
    assert clock.line().startswith("step 6/10, loss 3.000, keep 0.70, ")
    assert clock.row("..., mIoU 0.1234") == {"step": 6, "loss": 3.0, "keep": 0.7, "miou": 0.1234}
    assert clock.losses == []
    assert clock.save_due(0.0) and not clock.save_due(math.inf)
