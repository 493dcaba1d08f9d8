"""Small moving things, on maps that were drawn by hand."""

import numpy as np
import pytest

from edgeprune.data.samples import UInt8
from edgeprune.lab.remembered.clips import Clip
from edgeprune.lab.remembered.small_moving import find_moving, moving_parts, share_right
from edgeprune.lab.through_time.scores import IGNORED

ROAD, CAR, TREE = 0, 1, 2


def street(*boxes: tuple[int, int, int, int, int]) -> UInt8:
    """64x64 of road with boxes: class, top, left, height, width."""
    label_HW = np.full((64, 64), ROAD, np.uint8)
    for number, top, left, height, width in boxes:
        label_HW[top : top + height, left : left + width] = number
    return label_HW


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    return street((1, top, left, height, width)) == 1


@pytest.mark.parametrize(
    ("before", "now", "counted"),
    [
        ((CAR, 4, 4, 5, 20), (CAR, 4, 6, 5, 20), True),  # 2 of 20 columns are new: a tenth
        ((CAR, 4, 4, 5, 20), (CAR, 4, 5, 5, 20), False),  # a twentieth
        ((CAR, 4, 4, 5, 20), (CAR, 4, 4, 5, 20), False),
        ((TREE, 4, 4, 5, 20), (TREE, 4, 9, 5, 20), False),  # no thing
        ((CAR, 0, 0, 32, 32), (CAR, 0, 8, 32, 32), False),  # 32x32 is not small
        ((CAR, 0, 0, 31, 32), (CAR, 0, 8, 31, 32), True),
        ((IGNORED, 4, 4, 5, 20), (CAR, 4, 4, 5, 20), False),  # what was there before nobody knows
    ],
)
def test_what_counts(before: tuple[int, ...], now: tuple[int, ...], counted: bool) -> None:
    number, *place = now
    found_HW = moving_parts(street(before), street(now), {CAR})  # type: ignore[arg-type]
    top, left, height, width = place
    assert np.array_equal(found_HW, box(top, left, height, width) if counted else np.zeros((64, 64), bool)), number


def test_of_two_parts_of_a_class_the_one_that_moves_counts() -> None:
    before, now = street((CAR, 4, 4, 5, 5), (CAR, 40, 4, 5, 5)), street((CAR, 4, 4, 5, 5), (CAR, 40, 6, 5, 5))
    assert np.array_equal(moving_parts(before, now, {CAR}), box(40, 6, 5, 5))


def test_the_first_frame_of_each_clip_and_clips_without_labels_have_none() -> None:
    one, other = street((CAR, 4, 4, 5, 5)), street((CAR, 40, 4, 5, 5))
    blank = np.zeros((64, 64, 3), np.uint8)
    labelled = Clip("a", [blank] * 2, [one, other], frozenset({CAR}))
    bare = Clip("b", [blank] * 2, [None, None])
    found = find_moving([labelled, bare, Clip("c", [blank], [one], frozenset({CAR}))])
    assert [mask is not None for mask in found] == [False, True, False, False, False]
    assert np.array_equal(found[1], box(40, 4, 5, 5))  # type: ignore[arg-type]


def test_the_share_is_of_those_pixels_alone() -> None:
    """All else is labelled wrong, and so is one row of five of the car."""
    moving, true = box(40, 4, 5, 5), street((CAR, 40, 4, 5, 5))
    answer = street((CAR, 40, 4, 4, 5))
    answer[answer == ROAD] = TREE
    assert share_right([None, moving], [true, true], [true, answer]) == 0.8
    assert share_right([None, None], [true, None], [answer, answer]) is None
