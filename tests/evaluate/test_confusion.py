"""IoU and pixel accuracy from the confusion matrix."""

import math

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.evaluate.confusion import ConfusionMatrix


def test_counts_by_hand() -> None:
    matrix = ConfusionMatrix(classes=3, ignore_index=255)
    matrix.update(np.array([[0, 1, 1, 2]], np.uint8), np.array([[0, 0, 1, 255]], np.uint8))
    assert matrix.counts_CC.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert matrix.per_class_iou[:2].tolist() == [0.5, 0.5] and math.isnan(matrix.per_class_iou[2])
    assert matrix.miou == 0.5
    assert matrix.pixel_accuracy == pytest.approx(2 / 3)


def test_class_without_labels_is_not_in_the_mean() -> None:
    matrix = ConfusionMatrix(classes=3, ignore_index=255)
    matrix.update(np.array([0, 0, 2, 0]), np.array([0, 0, 0, 0]))
    assert matrix.miou == 0.75
    assert math.isnan(matrix.per_class_iou[2])


def test_nothing_scored_is_nan() -> None:
    matrix = ConfusionMatrix(classes=2, ignore_index=9)
    matrix.update(np.array([0, 1]), np.array([9, 9]))
    assert math.isnan(matrix.miou) and math.isnan(matrix.pixel_accuracy)


def test_equals_torchmetrics_when_all_classes_are_labelled() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    classification = pytest.importorskip("torchmetrics.classification", reason="torchmetrics is not installed")
    random = np.random.default_rng(0)
    matrix = ConfusionMatrix(classes=11, ignore_index=11)
    reference = classification.MulticlassJaccardIndex(num_classes=11, average="macro", ignore_index=11)
    for _ in range(3):
        label_HW = random.integers(0, 12, (30, 40))
        pred_HW = np.where(random.random((30, 40)) < 0.6, np.minimum(label_HW, 10), random.integers(0, 11, (30, 40)))
        matrix.update(pred_HW.astype(np.uint8), label_HW.astype(np.uint8))
        reference.update(torch.from_numpy(pred_HW), torch.from_numpy(label_HW))
    assert matrix.miou == pytest.approx(float(reference.compute()), abs=1e-6)


def test_ids_that_are_no_class() -> None:
    matrix = ConfusionMatrix(classes=3, ignore_index=255)
    with pytest.raises(InputError, match=r"a label has id 7; expected 0 to 2, or 255 \(ignore\)"):
        matrix.update(np.array([0, 1]), np.array([0, 7]))
    with pytest.raises(ValueError, match="predicted ids reach from 0 to 3"):
        matrix.update(np.array([0, 3]), np.array([0, 1]))
    with pytest.raises(ValueError, match="differ in shape"):
        matrix.update(np.array([0, 1]), np.array([0]))
    assert matrix.counts_CC.sum() == 0
