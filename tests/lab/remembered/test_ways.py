"""Labels that are repeated: how often, and from which frame."""

import numpy as np

from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.remembered.clips import Clip
from edgeprune.lab.remembered.ways import (
    ALONE,
    DENSE,
    REMEMBERED,
    Opened,
    Way,
    ask,
    last_labelled,
    repeat,
    shortened,
)
from edgeprune.lab.through_time.scores import Judged, score


def numbered(count: int) -> Judged:
    """Frames of one pixel whose dense label is their number."""
    return Judged(dense=[np.array([[number]], np.uint8) for number in range(count)], begins={0})


def ways_of(frames: Judged, alone_ms: float, remembered_ms: float) -> dict[str, Way]:
    count, answers = len(frames.dense), [np.asarray(each, np.uint8) for each in frames.dense]
    return {
        DENSE: Way(list(answers), [40.0] * count, [1.0] * count),
        ALONE: Way(list(answers), [alone_ms] * count, [0.5] * count),
        REMEMBERED: Way([answers[0]] * count, [99.0, *[remembered_ms] * (count - 1)], [0.1] * count),
    }


def test_frames_keep_where_their_pictures_lie() -> None:
    clips, fit = [Clip("a"), Clip("b")], Preprocess(64, 96)
    for clip, side in zip(clips, (40, 64), strict=True):
        clip.show(np.zeros((40, side, 3), np.uint8), fit)
        clip.true.append(None)
    opened = Opened(lambda image_HW3: {"labels": image_HW3[::2, ::2, 0]}, {})  # type: ignore[arg-type]
    frames, ways = ask(opened, clips)
    assert frames.pictures == [clip.pictures[0] for clip in clips] and frames.begins == {0, 1}
    assert frames.pictures[0] == (slice(0, 64), slice(16, 80)) and ways[DENSE].answers[0].shape == (64, 96)


def test_labels_are_repeated_as_seldom_as_takes_the_same_time() -> None:
    frames = numbered(6)
    name, repeated = repeat(frames.begins, ways_of(frames, 30.0, 10.0))
    assert name == "labels repeated, each 3 times"
    assert score(1.0, name, frames, repeated.answers).equal == 0.2  # of five frames the third is its own
    assert repeated.mean_ms == 6.0 and repeated.tokens == [0.5, 0, 0, 0.5, 0, 0]


def test_a_way_that_takes_no_time_is_no_reason_to_fail() -> None:
    """A still clip is remembered in a moment, and labels would be repeated longer than it lasts."""
    frames = numbered(3)
    assert repeat(frames.begins, ways_of(frames, 40.0, 0.1))[0] == "labels repeated, each 2 times"


def test_labels_are_not_repeated_over_a_cut() -> None:
    assert last_labelled({0, 4}, 8, 3) == [0, 0, 0, 3, 4, 4, 4, 7]
    assert shortened({0, 4}, 8, 9) == 3 and shortened({0, 4}, 8, 1) == 2
