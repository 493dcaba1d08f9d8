"""Losses against the same sums in plain Python."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgeprune.train import losses
from edgeprune.train.losses import (
    class_weights,
    cross_entropy,
    dice_distance,
    distance_to_teacher,
    distance_to_tokens,
    hard_cross_entropy,
    jaccard_distance,
)


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


def test_what_smoothing_takes_from_a_class_is_spread_evenly_whatever_the_weights() -> None:
    """torch spreads it by the weights: then a class that no pixel has, whose weight is the largest, would win everywhere."""
    torch.manual_seed(0)
    weights_K = class_weights([100, 25, 0], 0.5)
    assert weights_K is not None and weights_K[2] > 100 * weights_K[0]
    logits_K = torch.zeros(3, requires_grad=True)
    labels_BHW = torch.zeros(1, 2, 2, dtype=torch.int64)
    for _ in range(300):
        loss = cross_entropy(logits_K[None, :, None, None].expand(1, 3, 2, 2), labels_BHW, 255, weights_K, 0.1)
        (gradient_K,) = torch.autograd.grad(loss, logits_K)
        logits_K = (logits_K - gradient_K).detach().requires_grad_()
    torch.testing.assert_close(logits_K.softmax(0), torch.tensor([1 - 0.2 / 3, 0.1 / 3, 0.1 / 3]), atol=2e-3, rtol=0)
    logits_BKHW, labels_BHW = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    torch.testing.assert_close(
        cross_entropy(logits_BKHW, labels_BHW, 255, torch.ones(3), 0.1),
        cross_entropy(logits_BKHW, labels_BHW, 255, None, 0.1),
    )
    torch.testing.assert_close(
        hard_cross_entropy(logits_BKHW, labels_BHW, 255, weights_K, 0.1, 1.0, 1.0),
        cross_entropy(logits_BKHW, labels_BHW, 255, weights_K, 0.1),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights_K", [None, torch.tensor([0.5, 1.0, 1.5])])
def test_a_batch_of_ignored_pixels_teaches_nothing_and_breaks_nothing(
    weights_K: torch.Tensor | None, smoothing: float
) -> None:
    logits_BKHW = torch.randn(1, 3, 4, 4, requires_grad=True)
    labels_BHW = torch.full((1, 8, 8), 255)
    loss = cross_entropy(logits_BKHW, labels_BHW, 255, weights_K, smoothing)
    loss = loss + hard_cross_entropy(logits_BKHW, labels_BHW, 255, weights_K, smoothing, 0.7, 0.1)
    loss = loss + jaccard_distance(logits_BKHW, labels_BHW, 255) + dice_distance(logits_BKHW, labels_BHW, 255)
    loss.backward()
    assert loss == 0 and logits_BKHW.grad is not None and (logits_BKHW.grad == 0).all()


@pytest.mark.parametrize("weights_K", [None, torch.tensor([0.5, 1.0, 1.5])])
@pytest.mark.parametrize(("threshold", "least"), [(0.5, 0.1), (0.001, 0.25), (0.3, 0.7)])
def test_hard_pixels_are_those_under_the_threshold_and_a_share_of_each_image(
    weights_K: torch.Tensor | None, threshold: float, least: float
) -> None:
    """The second image is easy: of it the share alone counts."""
    torch.manual_seed(0)
    labels_BHW = torch.randint(0, 3, (2, 8, 12))
    labels_BHW[0, :4] = 255
    at_BHW = labels_BHW[:, 1::2, 1::2]
    logits_BKHW = torch.randn(2, 3, 4, 6)
    logits_BKHW[1] += 8 * F.one_hot(at_BHW[1], 3).permute(2, 0, 1)
    total = count = 0.0
    for b in range(2):
        places = [(y, x) for y in range(4) for x in range(6) if at_BHW[b, y, x] != 255]
        p = {(y, x): logits_BKHW[b, :, y, x].softmax(0)[at_BHW[b, y, x]].item() for y, x in places}
        hardest = sorted(places, key=p.__getitem__)
        hard = set(hardest[: math.ceil(least * len(places))]) | {at for at in places if p[at] < threshold}
        assert b == 0 or len(hard) == math.ceil(least * len(places))
        for y, x in hard:
            weight = 1.0 if weights_K is None else weights_K[at_BHW[b, y, x]].item()
            total, count = total - weight * math.log(p[y, x]), count + weight
    got = hard_cross_entropy(logits_BKHW, labels_BHW, 255, weights_K, 0.0, threshold, least)
    assert got.item() == pytest.approx(total / count, rel=1e-5)


def test_where_all_pixels_are_hard_it_is_the_cross_entropy() -> None:
    torch.manual_seed(0)
    logits_BKHW, labels_BHW = torch.randn(2, 3, 4, 6), torch.randint(0, 3, (2, 8, 12))
    labels_BHW[0, :3] = 255
    about = (logits_BKHW, labels_BHW, 255, torch.tensor([0.5, 1.0, 1.5]), 0.1)
    torch.testing.assert_close(hard_cross_entropy(*about, 0.5, 1.0), cross_entropy(*about))


def test_easy_pixels_get_no_gradient() -> None:
    logits_BKHW = torch.tensor([[[[4.0, 0.0]], [[0.0, 0.0]]]], requires_grad=True)
    hard_cross_entropy(logits_BKHW, torch.zeros(1, 1, 2, dtype=torch.long), 255, None, 0.0, 0.7, 0.5).backward()
    assert logits_BKHW.grad is not None
    torch.testing.assert_close(logits_BKHW.grad, torch.tensor([[[[0.0, -0.5]], [[0.0, 0.5]]]]))


def test_dice_distance_is_one_minus_the_mean_dice_of_the_classes_present() -> None:
    torch.manual_seed(0)
    logits_BKHW = torch.randn(2, 4, 4, 6)
    labels_BHW = torch.randint(0, 3, (2, 8, 12))  # class 3 is nowhere
    labels_BHW[1, :, :6] = 11
    at_BHW = labels_BHW[:, 1::2, 1::2].numpy()
    p_BKHW = logits_BKHW.softmax(1).numpy()
    counted = at_BHW != 11
    dices = [
        2 * p_BKHW[:, k][counted & (at_BHW == k)].sum()
        / ((p_BKHW[:, k][counted] ** 2).sum() + (at_BHW == k).sum())
        for k in range(3)
    ]  # fmt: skip
    assert dice_distance(logits_BKHW, labels_BHW, 11).item() == pytest.approx(1 - np.mean(dices), rel=1e-5)


def hard(logits_BKHW: torch.Tensor, labels_BHW: torch.Tensor, ignore_index: int) -> torch.Tensor:
    return hard_cross_entropy(logits_BKHW, labels_BHW, ignore_index, torch.tensor([0.5, 1.0, 1.5]), 0.1, 0.4, 0.1)


@pytest.mark.parametrize("loss", [hard, dice_distance, jaccard_distance])
def test_a_share_of_the_batch_has_the_loss_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, loss: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
) -> None:
    """As in one of two processes: sums are those over both. The shares differ in what is labelled and in what is hard."""
    torch.manual_seed(0)
    logits_BKHW, labels_BHW = torch.randn(2, 3, 4, 6), torch.randint(0, 3, (2, 8, 12))
    labels_BHW[0, :5] = 255
    logits_BKHW[1] *= 4
    whole = loss(logits_BKHW, labels_BHW, 255)
    own: list[list[torch.Tensor]] = [[], []]
    for share, given in enumerate(own):
        monkeypatch.setattr(losses, "batch_sum", lambda x, given=given: given.append(x) or x)
        assert loss(logits_BKHW[share, None], labels_BHW[share, None], 255) != pytest.approx(whole.item(), rel=1e-3)
    sums = iter([ours + theirs for ours, theirs in zip(*own, strict=True)])
    monkeypatch.setattr(losses, "batch_sum", lambda x: next(sums))
    torch.testing.assert_close(loss(logits_BKHW[:1], labels_BHW[:1], 255), whole)


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


def test_the_distance_of_a_perfect_answer_is_zero_and_of_ignored_pixels_nothing() -> None:
    labels_BHW = torch.randint(0, 3, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    perfect_BKHW = F.one_hot(labels_BHW[:, 1::2, 1::2], 3).permute(0, 3, 1, 2) * 50.0
    for distance in (jaccard_distance, dice_distance):
        assert distance(perfect_BKHW, labels_BHW, 11).item() == pytest.approx(0, abs=1e-5)
    assert jaccard_distance(perfect_BKHW, torch.full((1, 8, 8), 11), 11) == 0


def test_distance_to_the_teacher_is_the_kl_divergence_from_it() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    p, q = teacher.softmax(1), student.softmax(1)
    expected = (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(distance_to_teacher(student, teacher), expected)
    assert distance_to_teacher(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    teacher = teacher[:, :, :2]
    coarse = F.avg_pool2d(teacher, 2)
    assert distance_to_teacher(coarse, teacher).item() == pytest.approx(
        0, abs=1e-6
    )  # a finer teacher, read at every fourth


def test_distance_to_the_teachers_tokens_is_relative_to_their_size() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 4), torch.randn(2, 6, 4)
    pairs = [(float(s), float(t)) for s, t in zip(student.flatten(), teacher.flatten(), strict=True)]
    expected = sum((s - t) ** 2 for s, t in pairs) / sum(t**2 for _, t in pairs)
    assert distance_to_tokens(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    assert distance_to_tokens(3 * student, 3 * teacher).item() == pytest.approx(expected, rel=1e-5)
    assert distance_to_tokens(teacher, teacher) == 0
