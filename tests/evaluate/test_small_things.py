"""mIoU of small things on maps drawn by hand: what right, missing, moved, swollen and constant answers get."""

import math

import numpy as np
import pytest

from edgeprune.data.samples import UInt8
from edgeprune.evaluate.small_things import SmallThings

ROAD, CAR, POLE, VOID = 0, 1, 2, 9


def street() -> UInt8:
    """64x64 of road with a large car of 1,200 pixels, a small one of 60 and a pole of 40."""
    label_HW = np.full((64, 64), ROAD, np.uint8)
    label_HW[0:30, 0:40] = CAR
    label_HW[50:56, 50:60] = CAR
    label_HW[20:60, 45:46] = POLE
    return label_HW


def miou(pred_HW: UInt8, label_HW: UInt8, *more: tuple[UInt8, UInt8]) -> float:
    things = SmallThings([CAR, POLE], VOID)
    for pred, label in ((pred_HW, label_HW), *more):
        things.update(pred, label)
    return things.miou


def test_a_perfect_answer_is_one() -> None:
    assert miou(street(), street()) == 1.0


def test_large_things_and_stuff_have_no_vote() -> None:
    pred_HW = street()
    pred_HW[0:30, 0:40] = ROAD
    assert miou(pred_HW, street()) == 1.0
    pred_HW[0:30, 0:40] = POLE  # a false alarm of 1,200 pixels that meets no pole: mIoU sees it
    assert miou(pred_HW, street()) == 1.0


def test_a_thing_that_is_missed() -> None:
    pred_HW = street()
    pred_HW[50:56, 50:60] = ROAD
    assert miou(pred_HW, street()) == pytest.approx((0 + 1) / 2)


def test_a_thing_that_is_found_in_half_and_ends_beside_itself() -> None:
    """30 of 60 pixels, and 18 that are road."""
    pred_HW = street()
    pred_HW[50:56, 50:55] = ROAD
    pred_HW[50:56, 60:63] = CAR
    assert miou(pred_HW, street()) == pytest.approx((30 / 78 + 1) / 2)


def test_an_answer_that_is_much_too_large() -> None:
    """A car of 1,252 pixels around one of 60: all that is wrong of it counts, large though it is."""
    pred_HW = street()
    pred_HW[0:30, 0:40] = ROAD
    pred_HW[32:64, 24:64] = np.where(street()[32:64, 24:64] == POLE, POLE, CAR)
    assert miou(pred_HW, street()) == pytest.approx((60 / 1252 + 1) / 2)


def test_an_answer_that_runs_into_a_large_thing_shares_what_is_wrong_with_it() -> None:
    """One component over the large car, the small one and 112 pixels between: the small one's part is 60 of 1,260."""
    pred_HW = street()
    pred_HW[30:62, 38:40] = CAR
    pred_HW[60:62, 40:60] = CAR
    pred_HW[56:60, 50:52] = CAR
    assert miou(pred_HW, street()) == pytest.approx((60 / (60 + 112 * 60 / 1260) + 1) / 2)


def test_a_rough_edge_of_a_large_thing_alone_is_not_a_small_ones() -> None:
    pred_HW = street()
    pred_HW[30:33, 0:40] = CAR
    assert miou(pred_HW, street()) == 1.0


def test_a_small_thing_that_is_not_there() -> None:
    """40 pixels of a second pole: 40 / 80."""
    pred_HW = street()
    pred_HW[20:60, 62:63] = POLE
    assert miou(pred_HW, street()) == pytest.approx((1 + 40 / 80) / 2)


def test_a_constant_answer() -> None:
    """A frame of car: of 4,096 pixels 2,836 are wrong, and the small car's part of them is 60 of 1,260. There is no pole."""
    pred_HW = np.full((64, 64), CAR, np.uint8)
    assert miou(pred_HW, street()) == pytest.approx((60 / (60 + 2836 * 60 / 1260) + 0) / 2)
    assert miou(np.full((64, 64), ROAD, np.uint8), street()) == 0.0
    small_HW = street()
    small_HW[0:30, 0:40] = ROAD  # the small car alone: all that is wrong is its own
    assert miou(pred_HW, small_HW) == pytest.approx((60 / 4096 + 0) / 2)


def test_ignored_pixels_are_of_no_class_in_either_map() -> None:
    """What an answer does there neither counts nor joins two of its components."""
    label_HW, pred_HW = street(), street()
    label_HW[45:50, :] = VOID
    pred_HW[45:50, 40:] = CAR
    assert miou(pred_HW, label_HW) == 1.0


def test_the_bound_is_under_1024_pixels() -> None:
    for height, found in ((31, 0.0), (32, math.nan)):
        label_HW = np.full((64, 64), ROAD, np.uint8)
        label_HW[:height, :32] = CAR
        assert miou(np.full_like(label_HW, ROAD), label_HW) == pytest.approx(found, nan_ok=True)


def test_frames_add_up_and_a_class_without_small_things_is_left_out() -> None:
    """The small car found in one frame of two; false poles of a frame without one lower nothing else."""
    label_HW = np.where(street() == POLE, ROAD, street()).astype(np.uint8)
    missed_HW = label_HW.copy()
    missed_HW[50:56, 50:60] = POLE
    assert miou(label_HW, label_HW, (missed_HW, label_HW)) == pytest.approx(60 / 120)


def test_nothing_to_score() -> None:
    empty_HW = np.full((8, 8), ROAD, np.uint8)
    assert math.isnan(miou(empty_HW, empty_HW))
    assert math.isnan(SmallThings([], VOID).miou)
