"""How near the labels of a way through a clip are to those of the dense network, and to the clip's own.

Shapes: h w pixels of a label map.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import numpy.typing as npt

from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import UInt8
from edgeprune.evaluate.confusion import ConfusionMatrix
from edgeprune.evaluate.video import VideoConsistency
from edgeprune.lab.agreement import whole_pixels

REPEATED, DENSE = "labels repeated", "dense, frame by frame"
WINDOW, LONG_WINDOW = 8, 16  # frames of video consistency
IGNORED = 255
Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
Picture = tuple[slice, slice]  # rows and columns of a label map
COLUMNS = {
    "share": ("of the tokens", ".0%"),
    "way": ("way", ""),
    "equal": ("equal", ".2%"),
    "least": ("least", ".2%"),
    "changed": ("where it changed", ".1%"),
    "miou": ("mIoU", ".4f"),
    "steady": ("VC8", ".2%"),
    "right": ("and right", ".2%"),
    "steady_16": ("VC16", ".2%"),
    "right_16": ("and right", ".2%"),
}


@dataclass
class WayRow:
    """One way at one share of the tokens; shares of equal labels, 0 to 1.

    Attributes:
        equal, least: over the frames, of the worst one.
        changed: over all pixels whose dense label is another than in the frame before; None where no label changed.
        miou, steady, right, steady_16, right_16: by the clip's labels; None without, all but `miou` (see `Consistency`, over
            WINDOW and LONG_WINDOW frames) of a short clip too.
    """

    share: float
    way: str
    equal: float = 0.0
    least: float = 1.0
    changed: float | None = None
    miou: float | None = None
    steady: float | None = None
    right: float | None = None
    steady_16: float | None = None
    right_16: float | None = None


@dataclass
class Judged:
    """What the labels of frames are held to.

    Attributes:
        dense: what the dense network labels (h, w).
        true: the clips' own labels at that size, None of a clip without; empty where none has any.
        begins: numbers of the frames that begin a clip: between them and those before is a cut, over which nothing changes
            and nothing is steady.
        pictures: where in the labels of each frame its picture lies: the bars beside it are not compared. Empty: everywhere.
    """

    dense: list[Labels] = field(default_factory=list)
    true: list[UInt8 | None] = field(default_factory=list)
    begins: set[int] = field(default_factory=set)
    pictures: list[Picture] = field(default_factory=list)

    def shown(self, at: int, mask_hw: Mask) -> Mask:
        """What of a mask over a frame's labels lies in its picture."""
        return mask_hw[self.pictures[at]] if self.pictures else mask_hw

    @property
    def labelled(self) -> list[UInt8]:
        """`true`, of the frames that have labels."""
        return [each for each in self.true if each is not None]


def picture_of(fit: Preprocess, image_HW3: UInt8, stride: int = 1) -> Picture:
    """Where a frame of any size lies in labels of the input's pixels, each of `stride` x `stride`: those that it covers as a
    whole."""
    top, left, height, width = fit.placement(*image_HW3.shape[:2])
    return whole_pixels(slice(top, top + height), stride), whole_pixels(slice(left, left + width), stride)


def score(share: float, way: str, frames: Judged, answers: Sequence[Labels]) -> WayRow:
    """Of all frames after the first."""
    row, changed, equal_there = WayRow(share, way), 0, 0
    equal = []
    for at, (dense, answer) in enumerate(zip(frames.dense[1:], answers[1:], strict=True), start=1):
        same = frames.shown(at, answer == dense)
        equal.append(float(same.mean()))
        if at not in frames.begins:
            other = frames.shown(at, frames.dense[at - 1] != dense)
            changed += int(other.sum())
            equal_there += int(same[other].sum())
    row.equal, row.least = fmean(equal), min(equal)
    row.changed = equal_there / changed if changed else None
    if frames.labelled:
        by_label(row, frames, answers)
    return row


def by_label(row: WayRow, frames: Judged, answers: Sequence[Labels]) -> None:
    """What the clips' labels say, of all frames that have some."""
    largest = max(int(each[each != IGNORED].max(initial=0)) for each in frames.labelled)
    classes = 1 + max(largest, *(int(each.max()) for each in answers))
    matrix = ConfusionMatrix(classes, IGNORED)
    short, long = (VideoConsistency(window, IGNORED) for window in (WINDOW, LONG_WINDOW))
    for at, (answer, true) in enumerate(zip(answers, frames.true, strict=True)):
        if at in frames.begins:
            short.cut()
            long.cut()
        if true is None:
            continue
        matrix.update(answer, true)
        short.add(answer, true)
        long.add(answer, true)
    row.miou = matrix.miou
    row.steady, row.right = short.found.steady, short.found.steady_and_right
    row.steady_16, row.right_16 = long.found.steady, long.found.steady_and_right
