"""Boundary F against its definition written out, and the accumulated scores."""

import math

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data.samples import UInt8
from edgeprune.evaluate.metrics import Scores, boundary_f


def boundary_f_written_out(
    pred_HW: np.ndarray, label_HW: np.ndarray, classes: int, ignore_index: int, tolerance_px: float
) -> float:
    """The definition, pixel by pixel."""
    height, width = label_HW.shape

    def boundary(ids_HW: np.ndarray, index: int) -> list[tuple[int, int]]:
        found = []
        for y in range(height):
            for x in range(width):
                for dy, dx in ((0, 1), (1, 0), (1, 1)):
                    if y + dy >= height or x + dx >= width:
                        continue
                    if ignore_index in (label_HW[y, x], label_HW[y + dy, x + dx]):
                        continue
                    if (ids_HW[y, x] == index) != (ids_HW[y + dy, x + dx] == index):
                        found.append((y, x))
                        break
        return found

    def share_near(these: list[tuple[int, int]], those: list[tuple[int, int]]) -> float:
        near = [any((y - v) ** 2 + (x - u) ** 2 <= tolerance_px**2 for v, u in those) for y, x in these]
        return sum(near) / len(near) if near else 0.0

    scores = []
    for index in range(classes):
        pred, label = boundary(pred_HW, index), boundary(label_HW, index)
        if pred or label:
            precision, recall = share_near(pred, label), share_near(label, pred)
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return float(np.mean(scores)) if scores else math.nan


def blocks(random: np.random.Generator, classes: int, height: int, width: int) -> UInt8:
    """A label map of rectangles."""
    ids_HW = np.zeros((height, width), np.uint8)
    for _ in range(8):
        y, x = random.integers(0, height), random.integers(0, width)
        ids_HW[y : y + random.integers(2, 12), x : x + random.integers(2, 12)] = random.integers(0, classes)
    return ids_HW


@pytest.mark.parametrize("tolerance_px", [0.9, 1.0, 2.25, 4.5])
def test_boundary_f_is_its_definition(tolerance_px: float) -> None:
    random = np.random.default_rng(int(10 * tolerance_px))
    for _ in range(6):
        label_HW = blocks(random, 5, 22, 30)  # id 4 is ignored
        pred_HW = np.roll(np.minimum(label_HW, 3), tuple(random.integers(-3, 4, 2)), (0, 1))
        pred_HW[random.random(pred_HW.shape) < 0.01] = 2
        expected = boundary_f_written_out(pred_HW, label_HW, 4, 4, tolerance_px)
        assert boundary_f(pred_HW, label_HW, 4, 4, tolerance_px) == pytest.approx(expected, abs=1e-12)


def test_more_classes_than_a_number_has_bits() -> None:
    random = np.random.default_rng(3)
    label_HW, pred_HW = blocks(random, 150, 20, 24), blocks(random, 150, 20, 24)
    expected = boundary_f_written_out(pred_HW, label_HW, 150, 255, 1.5)
    assert boundary_f(pred_HW, label_HW, 150, 255, 1.5) == pytest.approx(expected, abs=1e-12)


def test_boundary_within_and_beyond_the_tolerance() -> None:
    label_HW = np.zeros((40, 40), np.uint8)
    label_HW[:, 20:] = 1
    for shift, expected in ((0, 1.0), (3, 1.0), (4, 0.0)):
        pred_HW = np.zeros_like(label_HW)
        pred_HW[:, 20 + shift :] = 1
        assert boundary_f(pred_HW, label_HW, 2, 255, 3.0) == expected


def test_boundary_that_only_one_side_has() -> None:
    flat_HW = np.zeros((8, 8), np.uint8)
    half_HW = flat_HW.copy()
    half_HW[4:] = 1
    assert boundary_f(half_HW, flat_HW, 2, 255, 1.0) == 0.0
    assert math.isnan(boundary_f(flat_HW, flat_HW, 2, 255, 1.0))


def test_tolerance_wider_than_the_image() -> None:
    random = np.random.default_rng(1)
    label_HW, pred_HW = blocks(random, 3, 6, 9), blocks(random, 3, 6, 9)
    expected = boundary_f_written_out(pred_HW, label_HW, 3, 255, 30.0)
    assert boundary_f(pred_HW, label_HW, 3, 255, 30.0) == pytest.approx(expected)


def test_scores_of_a_perfect_prediction_at_another_size() -> None:
    label_HW = np.zeros((60, 80), np.uint8)
    label_HW[20:, 40:] = 1
    label_HW[:, :4] = 9
    scores = Scores(["near", "far", "away"], ignore_index=9, score_size=(60, 80), things=["far", "away"])
    scores.update(np.minimum(label_HW, 1).repeat(2, 0).repeat(2, 1), label_HW)
    assert scores.result() == {
        "miou": 1.0,
        "pixel_accuracy": 1.0,
        "boundary_f": 1.0,
        "small_things_miou": None,  # what is far has 1,600 pixels
        "per_class_iou": {"near": 1.0, "far": 1.0, "away": None},
    }


def test_scores_add_up_over_frames() -> None:
    scores = Scores(["near", "far"], ignore_index=9, score_size=None)
    half_HW = np.repeat(np.array([[0, 1]], np.uint8), 20, 0).repeat(10, 1)
    scores.update(half_HW, half_HW)
    scores.update(np.zeros_like(half_HW), half_HW)
    result = scores.result()
    assert result["pixel_accuracy"] == 0.75 and result["boundary_f"] == 0.5
    assert result["per_class_iou"] == {"near": pytest.approx(2 / 3), "far": 0.5}
    assert result["miou"] == pytest.approx(7 / 12) and result["small_things_miou"] is None
    with pytest.raises(InputError, match="a label has id 5"):
        scores.update(half_HW, half_HW + 4)


def test_small_things_are_scored_at_the_size_of_the_score() -> None:
    """A thing of 20x20 pixels is small; the same frame at twice the size has one of 40x40, and none that is."""
    label_HW = np.zeros((40, 40), np.uint8)
    label_HW[:20, :20] = 1
    for size, expected in (((40, 40), 0.0), ((80, 80), None)):
        scores = Scores(["near", "far"], 9, size, things=["far"])
        scores.update(np.zeros_like(label_HW), label_HW)
        assert scores.result()["small_things_miou"] == expected


def test_scores_of_nothing() -> None:
    assert Scores(["near"], 9, None).result() == {
        "miou": None,
        "pixel_accuracy": None,
        "boundary_f": None,
        "small_things_miou": None,
        "per_class_iou": {"near": None},
    }
