"""Which query learns which thing: the cheapest pairs, by brute force; costs that stay finite; how far answers are off."""

from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgeprune.model.heads import places
from edgeprune.model.heads.answers import Answers
from edgeprune.train import matching
from edgeprune.train.matching import (
    Things,
    costs,
    distances,
    match,
    overlap,
    place_costs,
    points_near,
    shared_points,
    truth_at,
)
from edgeprune.train.tasks.instance import boxes_of

HEIGHT, WIDTH, CLASSES = 32, 48, 3


def rectangles(*corners: tuple[int, int, int, int]) -> torch.Tensor:
    """Masks (I, H, W) of left, top, right, bottom."""
    masks_IHW = torch.zeros(len(corners), HEIGHT, WIDTH, dtype=torch.uint8)
    for mask_HW, (left, top, right, bottom) in zip(masks_IHW, corners, strict=True):
        mask_HW[top:bottom, left:right] = 1
    return masks_IHW


def things(masks_IHW: torch.Tensor, counts: list[int]) -> Things:
    classes_I = torch.arange(len(masks_IHW)) % CLASSES
    return Things(counts, classes_I, masks_IHW, boxes_of(masks_IHW))


def random_answers(frames: int, queries: int, seed: int, answers: int = 1) -> Answers:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> list[torch.Tensor]:
        return [3 * torch.randn(frames, queries, *shape, generator=generator) for _ in range(answers)]

    return said(drawn(CLASSES + 1), [each.sigmoid() for each in drawn(4)], drawn(HEIGHT // 4, WIDTH // 4))


def said(logits: list[torch.Tensor], boxes: list[torch.Tensor], masks: list[torch.Tensor]) -> Answers:
    """Of queries that begin somewhere, all at one place, where nothing is hot."""
    frames, queries = boxes[0].shape[:2]
    heatmap_BKHW = torch.full((frames, CLASSES, HEIGHT // 8, WIDTH // 8), -30.0)
    return Answers(logits, boxes, masks, heatmap_BKHW, torch.zeros(frames, queries, dtype=torch.int64))


@pytest.mark.parametrize(("queries", "counts"), [(4, [3, 2]), (3, [3, 0]), (2, [4, 1]), (5, [0, 0])])
def test_the_pairs_are_the_cheapest_of_all_permutations(queries: int, counts: list[int]) -> None:
    """Of each frame on its own, and of each answer; with more things than queries, and with none."""
    total = sum(counts)
    masks_IHW = rectangles(*((3 * index, 2 * index, 3 * index + 9, 2 * index + 7) for index in range(total)))
    targets = things(masks_IHW, counts)
    raw = random_answers(2, queries, seed=queries, answers=2)
    torch.manual_seed(1)
    placed = place_costs(raw.heatmap_BKPhPw, raw.places_BQ, targets)
    expected = [costs(*each, targets, placed) for each in zip(raw.logits, raw.boxes, raw.masks, strict=True)]
    torch.manual_seed(1)
    found = match(raw, targets)
    assert len(found) == 2
    for pairs, of_answer in zip(found, expected, strict=True):
        assert len(pairs.frame_M) == sum(min(queries, count) for count in counts)
        first = 0
        for frame, (count, cost_QI) in enumerate(zip(counts, of_answer, strict=True)):
            own = pairs.frame_M == frame
            query_M, thing_M = pairs.query_M[own], pairs.thing_M[own] - first
            assert len(set(query_M.tolist())) == len(set(thing_M.tolist())) == min(queries, count)
            assert all(0 <= index < count for index in thing_M.tolist())
            assert cost_QI[query_M, thing_M].sum().item() == pytest.approx(cheapest(cost_QI), abs=1e-5)
            first += count


def cheapest(cost_QI: torch.Tensor) -> float:
    matrix = cost_QI.numpy() if len(cost_QI) >= cost_QI.shape[1] else cost_QI.numpy().T
    rows, columns = matrix.shape
    return min(
        sum(matrix[row, column] for column, row in enumerate(chosen)) for chosen in permutations(range(rows), columns)
    )


def test_a_thing_is_learnt_by_the_query_that_says_it() -> None:
    """Three things of one class side by side, said by the queries in another order, each by its mask and its box alone."""
    masks_IHW = rectangles((0, 0, 12, 32), (16, 0, 28, 32), (32, 0, 48, 32))
    targets = Things([3], torch.zeros(3, dtype=torch.int64), masks_IHW, boxes_of(masks_IHW))
    order = [2, 0, 1]
    masks_Qhw = 20 * F.avg_pool2d(masks_IHW[order].float(), 4) - 10
    raw = said([torch.zeros(1, 3, 2)], [targets.boxes_I4[order][None]], [masks_Qhw[None]])
    (pairs,) = match(raw, targets)
    assert pairs.thing_M[pairs.query_M.argsort()].tolist() == order


def test_a_short_box_costs_less_than_a_wrong_class() -> None:
    """Of two queries on one thing, one of its class whose box ends a little early, one of another whose box is too large: what
    the short box cuts away of its mask is no fault of it."""
    masks_IHW = rectangles((8, 4, 40, 28))
    targets = things(masks_IHW, [1])
    box_4, mask_hw = targets.boxes_I4[0], 20 * F.avg_pool2d(masks_IHW.float(), 4)[0] - 10
    boxes_Q4 = torch.stack((box_4 * torch.tensor([1.0, 1.0, 0.8, 0.8]), box_4 * torch.tensor([1.0, 1.0, 1.2, 1.2])))
    cut_1Qhw = places.cut(mask_hw.expand(1, 2, -1, -1), boxes_Q4[None])
    logits_1QK1 = torch.zeros(1, 2, CLASSES + 1)
    logits_1QK1[0, 0, 0] = logits_1QK1[0, 1, 1] = 8.0
    (pairs,) = match(said([logits_1QK1], [boxes_Q4[None]], [cut_1Qhw]), targets)
    assert pairs.query_M.tolist() == [0]


def test_a_thing_is_learnt_by_a_query_that_begins_inside_and_by_the_hottest_of_these() -> None:
    """All say the same; the first begins beside the thing where it is hottest, the last two inside."""
    targets = things(rectangles((24, 0, 48, 32)), [1])
    masks_1Qhw, boxes_1Q4 = torch.zeros(1, 3, HEIGHT // 4, WIDTH // 4), targets.boxes_I4[0].expand(1, 3, 4)
    raw = said([torch.zeros(1, 3, CLASSES + 1)], [boxes_1Q4], [masks_1Qhw])
    raw.places_BQ = torch.tensor([[0, 4, 11]])
    raw.heatmap_BKPhPw = torch.full((1, CLASSES, HEIGHT // 8, WIDTH // 8), -3.0)
    raw.heatmap_BKPhPw[0, 0].view(-1)[[0, 4, 11]] = torch.tensor([5.0, -1.0, 1.0])
    raw.heatmap_BKPhPw[0, 1].view(-1)[4] = 9.0  # of another class
    (pairs,) = match(raw, targets)
    assert pairs.query_M.tolist() == [2]
    (cost_QI,) = place_costs(raw.heatmap_BKPhPw, raw.places_BQ, targets)
    assert cost_QI[0] > matching.PLACE_WEIGHT - matching.HEAT_WEIGHT and (cost_QI[1:] < 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("part", ["logits", "boxes", "masks"])
def test_costs_stay_finite_and_everything_is_matched(part: str, value: float) -> None:
    targets = things(rectangles((0, 0, 9, 9), (20, 4, 40, 30)), [2])
    raw = random_answers(1, 4, seed=0)
    getattr(raw, part)[0][0, 1] = value
    placed = place_costs(raw.heatmap_BKPhPw, raw.places_BQ, targets)
    (cost_QI,) = costs(raw.logits[0], raw.boxes[0], raw.masks[0], targets, placed)
    assert cost_QI.isfinite().all() and cost_QI.abs().max() <= matching.FAR
    (pairs,) = match(raw, targets)
    assert sorted(pairs.thing_M.tolist()) == [0, 1]
    getattr(raw, part)[0][:] = value
    (pairs,) = match(raw, targets)
    assert sorted(pairs.thing_M.tolist()) == [0, 1]


def test_answers_that_are_right_are_near_and_learn_nothing_more() -> None:
    """Masks of whole blocks of 4x4 pixels, which the logits' own pixels can say."""
    masks_IHW = rectangles((4, 8, 20, 24), (12, 0, 44, 32))
    targets = things(masks_IHW, [1, 1])
    said_Mhw = 60 * F.avg_pool2d(masks_IHW.float(), 4) - 30
    raw = answered(targets.boxes_I4, said_Mhw)
    (pairs,) = match(raw, targets)
    right = distances(raw.boxes[0], raw.masks[0], targets, pairs)
    opposite = answered(targets.boxes_I4, -said_Mhw)
    assert right < 0.2 * distances(opposite.boxes[0], opposite.masks[0], targets, pairs)
    moved = answered(targets.boxes_I4 + torch.tensor([0.1, 0.0, 0.0, 0.0]), said_Mhw)
    torch.manual_seed(0)
    here = distances(raw.boxes[0], raw.masks[0], targets, pairs)
    torch.manual_seed(0)
    there = distances(moved.boxes[0], moved.masks[0], targets, pairs)
    least = 2 * (matching.BOX_WEIGHT * 0.1)
    assert there - here > least  # and they overlap less


def test_a_wrong_box_is_no_fault_of_its_mask() -> None:
    """What the first boxes, of 32 pixels each way, cut away of a large thing was half of all that photos taught."""
    masks_IHW = rectangles((4, 8, 20, 24), (12, 0, 44, 32))
    targets = things(masks_IHW, [1, 1])
    found = []
    for share in (1.0, 0.1):
        said_Mhw = (20 * F.avg_pool2d(masks_IHW.float(), 4) - 10).requires_grad_()
        raw = answered(targets.boxes_I4 * torch.tensor([1.0, 1.0, share, share]), said_Mhw)
        (pairs,) = match(raw, targets)
        torch.manual_seed(0)
        distances(raw.boxes[0], raw.masks[0], targets, pairs).backward()
        assert said_Mhw.grad is not None
        found.append((raw.masks[0][masks_IHW[:, None, ::4, ::4] > 0].amin(), said_Mhw.grad))
    (whole, whole_grad_Mhw), (cut, cut_grad_Mhw) = found
    assert whole > 0 and cut < -20
    assert whole_grad_Mhw.any() and torch.allclose(cut_grad_Mhw, whole_grad_Mhw, atol=1e-5)


def answered(boxes_I4: torch.Tensor, masks_Ihw: torch.Tensor) -> Answers:
    """One query of each frame, whose mask ends where its box does."""
    boxes_B14 = boxes_I4[:, None]
    return said([torch.zeros(len(boxes_I4), 1, CLASSES + 1)], [boxes_B14], [places.cut(masks_Ihw[:, None], boxes_B14)])


def test_without_a_thing_there_is_a_gradient_of_zero() -> None:
    boxes_BQ4, masks_BQhw = torch.rand(2, 3, 4, requires_grad=True), torch.randn(2, 3, 8, 12, requires_grad=True)
    targets = things(rectangles(), [0, 0])
    (pairs,) = match(said([torch.zeros(2, 3, CLASSES + 1)], [boxes_BQ4], [masks_BQhw]), targets)
    distances(boxes_BQ4, masks_BQhw, targets, pairs).backward()
    assert boxes_BQ4.grad is not None and masks_BQhw.grad is not None
    assert not boxes_BQ4.grad.any() and not masks_BQhw.grad.any()


def test_overlap_of_boxes_is_that_of_known_ones() -> None:
    """The same; half of one; apart, where it says how far; one that has no area."""
    box = [0.5, 0.5, 0.2, 0.2]
    others = [box, [0.6, 0.5, 0.2, 0.2], [0.9, 0.5, 0.2, 0.2], [0.5, 0.5, 0.0, 0.0]]
    found = overlap(torch.tensor([box]), torch.tensor(others))
    assert found.tolist() == pytest.approx([1.0, 1 / 3, -1 / 3, 0.0], abs=1e-5)


def test_the_truth_of_a_point_is_that_of_the_pixel_under_it() -> None:
    masks_IHW = rectangles((0, 0, 1, 1), (WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT))
    points_P2 = torch.tensor(
        [[0.0, 0.0], [0.99 / WIDTH, 0.5 / HEIGHT], [1.01 / WIDTH, 0.5 / HEIGHT], [0.9999, 0.9999], [1.0, 1.0]]
    )
    found = truth_at(masks_IHW, points_P2.expand(2, -1, -1))
    assert found.tolist() == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]]


def test_points_lie_in_and_around_boxes_and_a_quarter_anywhere() -> None:
    """However small the box: a thing of a thousandth of the frame has as many as a large one."""
    boxes_N4 = torch.tensor([[0.3, 0.6, 0.02, 0.05], [0.5, 0.5, 0.4, 0.6], [0.99, 0.01, 0.1, 0.1]])
    torch.manual_seed(0)
    points_NP2 = points_near(boxes_N4[:, None].expand(-1, matching.LEARNT_POINTS, -1))
    assert points_NP2.shape == (3, matching.LEARNT_POINTS, 2) and points_NP2.min() >= 0 and points_NP2.max() <= 1
    apart_NP2 = (points_NP2 - boxes_N4[:, None, :2]).abs() / boxes_N4[:, None, 2:]
    near_NP, inside_NP = (apart_NP2 <= 0.75 + 1e-6).all(-1), (apart_NP2 <= 0.5).all(-1)
    assert (near_NP.float().mean(1) >= 0.75).all() and near_NP[0].float().mean() < 0.76
    assert inside_NP[:2].float().mean(1).tolist() == pytest.approx(
        [0.75 / 1.5**2, 0.75 / 1.5**2 + 0.25 * 0.24], abs=0.05
    )
    assert not np.array_equal(points_NP2[0].numpy(), points_NP2[1].numpy())


def test_things_of_a_frame_have_alike_many_of_its_points() -> None:
    """A large and a small one; and a frame without things has points everywhere."""
    targets = things(rectangles((0, 0, 4, 4), (12, 0, 48, 32)), [2, 0])
    torch.manual_seed(0)
    points_BP2 = shared_points(targets)
    assert points_BP2.shape == (2, matching.MATCHED_POINTS, 2)
    small, large = truth_at(targets.masks_IHW, points_BP2[0].expand(2, -1, -1)).mean(1).tolist()
    assert (
        small == pytest.approx(0.75 / 2 / 1.25**2, abs=0.06) and large > 0.3
    )  # half of the box's reach is off the frame
    assert points_BP2[1].mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.05)
