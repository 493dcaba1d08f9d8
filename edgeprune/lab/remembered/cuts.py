"""The first frame after a cut: the memory is of another scene, and has to notice.

Shapes: H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from edgeprune.bundle import Bundle
from edgeprune.data.samples import UInt8
from edgeprune.lab.remembered.clips import Clip
from edgeprune.lab.remembered.ways import ALONE, REMEMBERED, Way, segment
from edgeprune.lab.through_time.scores import Judged
from edgeprune.runtime.opening import open as open_stream

ALL = "all, mean"
SHOWN = {
    "clip": ("first of", ""),
    "remembered": ("remembered", ".2%"),
    "alone": ("by itself", ".2%"),
    "full": ("full", ".2%"),
    "tokens": ("tokens", ".1%"),
}


@dataclass(frozen=True)
class CutRow:
    """The first frame of a clip that comes after another.

    Attributes:
        clip: its name.
        remembered, alone, full: labels that are the dense network's: of the memory, of the frame by itself in the bucket that
            it asks for, and of the frame by itself in the bucket of all tokens; all of the precision that runs.
        tokens: that the memory computed, as a share of the dense network's: all where it noticed.
    """

    clip: str
    remembered: float
    alone: float
    full: float
    tokens: float


def after_cuts(clips: Sequence[Clip], frames: Judged, ways: dict[str, Way], full: Sequence[UInt8]) -> list[CutRow]:
    """A row of each clip after the first, and where there are several the means of all.

    Args:
        full: labels of their first frames in the bucket of all tokens.
    """
    rows = []
    for clip, at, full_HW in zip(clips[1:], sorted(frames.begins)[1:], full, strict=True):
        dense_HW = frames.dense[at]
        remembered, alone, whole = (
            float(np.mean(frames.shown(at, answer_HW == dense_HW)))
            for answer_HW in (ways[REMEMBERED].answers[at], ways[ALONE].answers[at], full_HW)
        )
        rows.append(CutRow(clip.name, remembered, alone, whole, ways[REMEMBERED].tokens[at]))
    if len(rows) > 1:
        figures = ([getattr(row, name) for row in rows] for name in SHOWN if name != "clip")
        rows.append(CutRow(ALL, *map(fmean, figures)))
    return rows


def ask_full(bundle: Bundle, clips: Sequence[Clip], engine: str, threads: int) -> list[UInt8]:
    """Labels (H, W) of the first frame of each clip after the first, in the bucket of all tokens."""
    bucket = bundle.manifest.buckets[-1].name
    with open_stream(bundle.folder, bucket=bucket, engine=engine, threads=threads) as stream:
        return [segment(stream, clip.images[0])[0] for clip in clips[1:]]
