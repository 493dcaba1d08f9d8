"""How much of small moving things is labelled right: what a memory that misses a change would lose, and a mean over all pixels
hardly shows.

Shapes: H W pixels; K connected parts of a label map.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from edgeprune.data.samples import UInt8
from edgeprune.evaluate.components import connected_components
from edgeprune.evaluate.small_things import SMALL_PX
from edgeprune.lab.remembered.clips import Clip
from edgeprune.lab.through_time.scores import IGNORED, Labels

MOVED = 0.1  # of its pixels, at least, are newly its own
Mask = npt.NDArray[np.bool_]


def moving_parts(before_HW: UInt8, label_HW: UInt8, things: Collection[int]) -> Mask:
    """Pixels of small moving things (H, W): connected parts (8-neighbourhood) of one class that is a thing, of fewer than
    SMALL_PX pixels, of which MOVED or more had the label of another class in the frame before.

    Args:
        before_HW, label_HW: true labels of two frames that follow each other; IGNORED is of no class.
        things: ids of the classes.
    """
    parts = connected_components(label_HW)
    new_HW = (before_HW != label_HW) & (before_HW != IGNORED)
    new_K = np.bincount(parts.of_HW[new_HW], minlength=len(parts.area_K))
    counted_K = np.isin(parts.id_K, list(things)) & (parts.area_K < SMALL_PX) & (new_K >= MOVED * parts.area_K)
    mask_HW: Mask = counted_K[parts.of_HW]
    return mask_HW


def find_moving(clips: Sequence[Clip]) -> list[Mask | None]:
    """`moving_parts` of all frames of clips, one after the other; None of a clip's first, and where there are no labels."""
    return [mask for clip in clips for mask in _of_one(clip)]


def _of_one(clip: Clip) -> Iterator[Mask | None]:
    before_HW: UInt8 | None = None
    for label_HW in clip.true:
        yield None if before_HW is None or label_HW is None else moving_parts(before_HW, label_HW, clip.things)
        before_HW = label_HW


def share_right(moving: Sequence[Mask | None], true: Sequence[UInt8 | None], answers: Sequence[Labels]) -> float | None:
    """Of the pixels of small moving things in all frames, the share that is labelled right; None where there is none."""
    pixels = right = 0
    for mask_HW, true_HW, answer_HW in zip(moving, true, answers, strict=True):
        if mask_HW is not None and true_HW is not None:
            pixels += int(mask_HW.sum())
            right += int((answer_HW == true_HW)[mask_HW].sum())
    return right / pixels if pixels else None
