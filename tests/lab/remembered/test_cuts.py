"""The first frame of each clip after the first, with shares that are known."""

import numpy as np

from edgeprune.lab.remembered.clips import Clip
from edgeprune.lab.remembered.cuts import ALL, CutRow, after_cuts
from edgeprune.lab.remembered.ways import ALONE, REMEMBERED, Way
from edgeprune.lab.through_time.scores import Judged


def right(pixels: int) -> np.ndarray:
    """Labels (1, 4) of which so many are the dense network's, which are all 1."""
    return np.array([[int(at < pixels) for at in range(4)]], np.uint8)


def test_first_frames_and_their_means() -> None:
    frames = Judged(dense=[right(4)] * 6, begins={0, 2, 5})
    ways = {
        REMEMBERED: Way([right(0), right(0), right(3), right(0), right(0), right(4)], tokens=[0.0, 0, 1, 0, 0, 0.25]),
        ALONE: Way([right(0), right(0), right(2), right(0), right(0), right(1)], tokens=[0.5] * 6),
    }
    clips = [Clip("a"), Clip("b"), Clip("c")]
    assert after_cuts(clips, frames, ways, [right(3), right(4)]) == [
        CutRow("b", 0.75, 0.5, 0.75, 1.0),
        CutRow("c", 1.0, 0.25, 1.0, 0.25),
        CutRow(ALL, 0.875, 0.375, 0.875, 0.625),
    ]


def test_bars_beside_a_picture_are_not_compared() -> None:
    right_half = (slice(0, 1), slice(2, 4))
    frames = Judged(dense=[right(4)] * 2, begins={0, 1}, pictures=[right_half] * 2)
    ways = {REMEMBERED: Way([right(4), right(3)], tokens=[1.0] * 2), ALONE: Way([right(4), right(2)], tokens=[1.0] * 2)}
    assert after_cuts([Clip("a"), Clip("b")], frames, ways, [right(4)]) == [CutRow("b", 0.5, 0.0, 1.0, 1.0)]


def test_one_cut_has_no_mean() -> None:
    frames = Judged(dense=[right(4)] * 2, begins={0, 1})
    way = Way([right(4)] * 2, tokens=[1.0] * 2)
    assert [
        row.clip for row in after_cuts([Clip("a"), Clip("b")], frames, {REMEMBERED: way, ALONE: way}, [right(4)])
    ] == ["b"]
