"""A row of each way: its labels, its time, and what optical flow and small moving things say of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.lab.remembered.by_flow import Warped, carry, warp
from edgeprune.lab.remembered.clips import Clip
from edgeprune.lab.remembered.flow import Flow
from edgeprune.lab.remembered.small_moving import find_moving, share_right
from edgeprune.lab.remembered.ways import REMEMBERED, WAITING, Way, repeat
from edgeprune.lab.through_time.scores import COLUMNS, DENSE, Judged, WayRow, score

SHOWN = {name: column for name, column in COLUMNS.items() if name != "share"} | {
    "small_moving": ("small moving", ".1%"),
    "warped": ("warped", ".2%"),
    "tokens": ("tokens", ".1%"),
    "mean_ms": ("mean ms", ".1f"),
    "p50_ms": ("p50", ".1f"),
    "speed": ("x dense", ".2f"),
}


@dataclass
class TimedRow(WayRow):
    """With what is measured of this study's ways alone.

    Attributes:
        small_moving: see `small_moving.share_right`.
        warped: see `by_flow.Warped`; None without optical flow.
        tokens: that were computed, as a share of the dense network's.
        mean_ms, p50_ms: of a frame. speed: the dense network's mean over this one.
    """

    small_moving: float | None = None
    warped: float | None = None
    tokens: float = 1.0
    mean_ms: float = 0.0
    p50_ms: float = 0.0
    speed: float = 0.0


def compare(clips: Sequence[Clip], frames: Judged, ways: dict[str, Way], flow: Flow | None) -> list[TimedRow]:
    """A row of each way, of all frames after the first."""
    all_ways = ways | dict(repeat(frames.begins, ways, beside) for beside in (REMEMBERED, WAITING))
    moving = find_moving(clips)
    warped = Warped()
    if flow:
        images = [image_HW3 for clip in clips for image_HW3 in clip.images]
        name, carried = carry(flow, images, frames, ways)
        all_ways[name] = carried
        warped = warp(flow, images, frames, all_ways)
    rows = []
    for name, way in all_ways.items():
        row = TimedRow(**vars(score(1.0, name, frames, way.answers)))
        row.small_moving = share_right(moving, frames.true, way.answers)
        row.warped = warped.share(name)
        row.mean_ms, row.p50_ms, row.tokens = way.mean_ms, way.p50_ms, way.mean_tokens
        row.speed = ways[DENSE].mean_ms / row.mean_ms
        rows.append(row)
    return rows
