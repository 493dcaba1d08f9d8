"""Scores of label maps: IoU and pixel accuracy over all pixels, IoU of small things, and the boundary F-measure.

Boundary F follows Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013:
each class as a binary map, boundary pixels matched within 0.75% of the image diagonal, F per image, then the mean. The
matching is that of Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016: each side is dilated by a disk.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.data.nearest import LabelMap, resize_nearest
from edgeprune.evaluate.confusion import ConfusionMatrix
from edgeprune.evaluate.small_things import SmallThings

TOLERANCE = 0.0075  # of the image diagonal
Bits = npt.NDArray[np.uint64]  # a pixel's bit c: the pixel is on the boundary of class c


def boundary_f(pred_HW: LabelMap, label_HW: LabelMap, classes: int, ignore_index: int, tolerance_px: float) -> float:
    """Mean over classes of the boundary F-measure 2PR / (P + R) of one frame.

    A pixel is on the boundary of a class when, of it and its neighbour to the right, below, or below right, one is of
    the class and the other is not. P: share of predicted boundary pixels with a labelled one within `tolerance_px`
    (Euclidean); R: the reverse. A class with a boundary in one of the maps only scores 0, with none in either it is
    left out. Ignored pixels (by the label, in both maps) are on no boundary, and make none for their neighbours.

    Returns:
        0 to 1; nan when no class has a boundary.
    """
    scored_HW = label_HW != ignore_index
    scores: list[float] = []
    for first in range(0, classes, 64):  # 64 classes at a time, a bit of a 64-bit number each
        last = min(first + 64, classes)
        pred_b_HW = _boundaries(pred_HW, scored_HW, first, last)
        label_b_HW = _boundaries(label_HW, scored_HW, first, last)
        pred_C = _pixels_per_bit(pred_b_HW)
        label_C = _pixels_per_bit(label_b_HW)
        pred_hits_C = _pixels_per_bit(pred_b_HW & _dilate(label_b_HW, tolerance_px))
        label_hits_C = _pixels_per_bit(label_b_HW & _dilate(pred_b_HW, tolerance_px))
        precision_C = pred_hits_C / np.maximum(pred_C, 1)
        recall_C = label_hits_C / np.maximum(label_C, 1)
        f_C = 2 * precision_C * recall_C / np.maximum(precision_C + recall_C, 1e-12)
        scores += f_C[(pred_C > 0) | (label_C > 0)].tolist()
    return float(np.mean(scores)) if scores else math.nan


def _boundaries(ids_HW: LabelMap, scored_HW: npt.NDArray[np.bool_], first: int, last: int) -> Bits:
    bit_of_id = np.zeros(max(int(ids_HW.max()) + 1, last), np.uint64)
    bit_of_id[first:last] = np.uint64(1) << np.arange(last - first, dtype=np.uint64)
    class_HW = bit_of_id[ids_HW]
    boundary_HW = np.zeros_like(class_HW)
    height, width = ids_HW.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        here, there = np.s_[: height - dy, : width - dx], np.s_[dy:, dx:]
        # two different classes leave both their bits, equal ones none
        both_scored = scored_HW[here] & scored_HW[there]
        boundary_HW[here] |= (class_HW[here] ^ class_HW[there]) * both_scored
    return boundary_HW


def _dilate(bits_HW: Bits, radius_px: float) -> Bits:
    """Every pixel takes the bits of all pixels within `radius_px`: rows of the disk, widest last, shifted."""
    height, width = bits_HW.shape
    radius = min(int(radius_px), height - 1)
    half_widths = [min(math.isqrt(int(radius_px**2 - dy**2)), width - 1) for dy in range(radius + 1)]
    wide_HW = bits_HW.copy()  # bits_HW dilated by `half` pixels to the left and right
    out_HW = np.zeros_like(bits_HW)
    half = 0
    for dy in range(radius, -1, -1):
        while half < half_widths[dy]:
            half += 1
            wide_HW[:, half:] |= bits_HW[:, : width - half]
            wide_HW[:, : width - half] |= bits_HW[:, half:]
        out_HW[dy:] |= wide_HW[: height - dy]
        out_HW[: height - dy] |= wide_HW[dy:]
    return out_HW


def _pixels_per_bit(bits_HW: Bits) -> npt.NDArray[np.int64]:
    """How many pixels have each of the 64 bits set."""
    used_P = bits_HW[bits_HW > 0]
    return np.array([np.count_nonzero(used_P & (np.uint64(1) << np.uint64(bit))) for bit in range(64)], np.int64)


class Scores:
    """Accumulates the scores of a stream of label maps.

    Args:
        names: the classes of the data set, in the order of their ids.
        ignore_index: label id of pixels that are not scored.
        score_size: (height, width) at which prediction and label are compared; None: each label's own size.
        things: the classes of which small ones are scored apart.
    """

    def __init__(
        self, names: Sequence[str], ignore_index: int, score_size: tuple[int, int] | None, things: Sequence[str] = ()
    ) -> None:
        self.names = list(names)
        self.score_size = score_size
        self.small_things = SmallThings([self.names.index(name) for name in things], ignore_index)
        self.confusion = ConfusionMatrix(len(self.names), ignore_index)
        self.boundary_f_per_frame: list[float] = []

    def update(self, pred_HW: LabelMap, label_HW: LabelMap) -> None:
        """Adds a frame; either map may have another size than `score_size` and is resized by nearest.

        Raises:
            InputError: a label id is neither a class nor `ignore_index`.
        """
        height, width = self.score_size or label_HW.shape
        pred_HW = resize_nearest(pred_HW, height, width)
        label_HW = resize_nearest(label_HW, height, width)
        self.confusion.update(pred_HW, label_HW)
        if self.small_things.things:
            self.small_things.update(pred_HW, label_HW)
        self.boundary_f_per_frame.append(
            boundary_f(
                pred_HW,
                label_HW,
                len(self.names),
                self.confusion.ignore_index,
                TOLERANCE * math.hypot(height, width),
            )
        )

    def result(self) -> dict[str, Any]:
        """`miou`, `pixel_accuracy`, `boundary_f` (the mean over frames), `small_things_miou`, each 0 to 1, and `per_class_iou`
        by name.

        None stands where nothing was scored: no frame, no things, or a class that no label has.
        """
        boundary = [value for value in self.boundary_f_per_frame if not math.isnan(value)]
        return {
            "miou": _or_none(self.confusion.miou),
            "pixel_accuracy": _or_none(self.confusion.pixel_accuracy),
            "boundary_f": float(np.mean(boundary)) if boundary else None,
            "small_things_miou": _or_none(self.small_things.miou),
            "per_class_iou": {
                name: _or_none(iou) for name, iou in zip(self.names, self.confusion.per_class_iou.tolist(), strict=True)
            },
        }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
