"""Pixels counted by label and predicted class; IoU and pixel accuracy from the counts."""

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError


class ConfusionMatrix:
    """Sums over frames; every pixel of every frame has one vote, pixels labelled `ignore_index` have none.

    IoU of a class: intersection / union of its predicted and its labelled pixels over all frames. mIoU: the mean over
    the classes that occur in the labels. With every class in the labels this is torchmetrics'
    `MulticlassJaccardIndex(average="macro")`; that one also counts a class that is predicted but never labelled, as 0.
    """

    def __init__(self, classes: int, ignore_index: int) -> None:
        self.classes = classes
        self.ignore_index = ignore_index
        self.counts_CC = np.zeros((classes, classes), np.int64)  # row: label, column: prediction

    def update(self, pred_HW: npt.NDArray[np.integer], label_HW: npt.NDArray[np.integer]) -> None:
        """Adds a frame. Both arrays have one shape (any number of axes) and hold class ids.

        Raises:
            InputError: a label id is neither a class nor `ignore_index`.
            ValueError: shapes differ, or a predicted id is no class.
        """
        if pred_HW.shape != label_HW.shape:
            raise ValueError(f"prediction {pred_HW.shape} and label {label_HW.shape} differ in shape")
        scored = label_HW != self.ignore_index
        label, pred = label_HW[scored], pred_HW[scored]
        if label.size == 0:
            return
        if label.min() < 0 or label.max() >= self.classes:
            stray = label.max() if label.max() >= self.classes else label.min()
            raise InputError(
                f"a label has id {stray}; expected 0 to {self.classes - 1}, or {self.ignore_index} (ignore); "
                f"correct `names` or `ignore_index` of the data set"
            )
        if pred.min() < 0 or pred.max() >= self.classes:
            raise ValueError(f"predicted ids reach from {pred.min()} to {pred.max()}; there are {self.classes} classes")
        pairs = label.astype(np.int32) * self.classes + pred
        self.counts_CC += np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)

    @property
    def per_class_iou(self) -> npt.NDArray[np.float64]:
        """IoU of each class, nan for a class that no label has."""
        both_C = np.diagonal(self.counts_CC).astype(np.float64)
        labelled_C, predicted_C = self.counts_CC.sum(1), self.counts_CC.sum(0)
        union_C = labelled_C + predicted_C - both_C
        return np.where(labelled_C > 0, both_C / np.maximum(union_C, 1), np.nan)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur in the labels; nan when none does."""
        iou_C = self.per_class_iou
        present_C = ~np.isnan(iou_C)
        return float(iou_C[present_C].mean()) if present_C.any() else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of scored pixels whose predicted class is the labelled one; nan when no pixel was scored."""
        total = self.counts_CC.sum()
        return float(np.trace(self.counts_CC) / total) if total else float("nan")
