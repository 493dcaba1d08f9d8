"""Clips over and over through one memory: whether what it keeps drifts.

Shapes: H W pixels.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from edgeprune.evaluate.confusion import ConfusionMatrix
from edgeprune.lab.remembered.clips import Clip
from edgeprune.lab.remembered.ways import segment
from edgeprune.lab.through_time.scores import IGNORED, Judged, Labels
from edgeprune.runtime.stream import Stream

IDS = 256  # of a label map of bytes
SHOWN = {
    "figure": ("figure", ""),
    "loops": ("loops", ",d"),
    "frames": ("frames", ",d"),
    "first": ("first loop", ".2%"),
    "last": ("last loop", ".2%"),
    "points": ("points more", "+.2f"),
}


@dataclass(frozen=True)
class Loop:
    """One whole loop.

    Attributes:
        equal: the share of labels that are the dense network's.
        miou: None where no frame has labels.
        tokens: computed, as a share of the dense network's: more where the camera moves and frames are computed by themselves.
    """

    equal: float
    miou: float | None
    tokens: float


@dataclass(frozen=True)
class LoopsRow:
    """A figure of the first whole loop and of the last, 0 to 1, and how many points of a hundred that is more.

    Attributes:
        figure: a field of `Loop`.
        frames: of all loops together.
    """

    figure: str
    loops: int
    frames: int
    first: float
    last: float
    points: float


def score_loop(frames: Judged, answers: Iterable[tuple[Labels, float]]) -> Loop:
    """All frames of a loop, its first included; none of the answers is kept.

    Args:
        answers: labels (H, W) of each, and the share of the tokens that were computed for them.
    """
    matrix, equal, tokens = ConfusionMatrix(IDS, IGNORED), [], []
    each = enumerate(zip(frames.dense, frames.true, answers, strict=True))
    for at, (dense_HW, true_HW, (answer_HW, computed)) in each:
        equal.append(float(np.mean(frames.shown(at, answer_HW == dense_HW))))
        tokens.append(computed)
        if true_HW is not None:
            matrix.update(answer_HW, true_HW)
    return Loop(fmean(equal), matrix.miou if frames.labelled else None, fmean(tokens))


def loop_on(stream: Stream, clips: Sequence[Clip], frames: Judged, loops: int, note: Callable[[str], None]) -> Loop:
    """All loops after the first through a stream that has seen that one; the last of them. The stream counts its frames on.

    Args:
        loops: of all, the first included; 2 or more.
    """
    for number in range(2, loops + 1):
        answers = (segment(stream, image_HW3) for clip in clips for image_HW3 in clip.images)
        last = score_loop(frames, ((answer_HW, tokens) for answer_HW, _, tokens in answers))
        note(f"loop {number} of {loops}: {last.equal:.2%} equal")
    return last


def compare_loops(first: Loop, last: Loop, loops: int, frames: int) -> list[LoopsRow]:
    """A row of each figure that there is.

    Args:
        frames: of one loop.
    """
    rows = []
    for figure in ("equal", "miou", "tokens"):
        before, after = getattr(first, figure), getattr(last, figure)
        if before is not None and after is not None:
            rows.append(LoopsRow(figure, loops, loops * frames, before, after, 100 * (after - before)))
    return rows
