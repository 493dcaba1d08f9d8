"""Video consistency, on clips with known answers."""

import numpy as np
import pytest

from edgeprune.evaluate.video import Consistency, VideoConsistency


def consistency(preds: list[list[int]], labels: list[list[int]], length: int) -> Consistency:
    found = VideoConsistency(length)
    for pred, label in zip(preds, labels, strict=True):
        found.add(np.array([pred]), np.array([label]))
    return found.found


def test_a_constant_wrong_answer_is_steady_and_not_right() -> None:
    found = consistency([[0, 0, 1, 1]] * 3, [[0, 0, 0, 0]] * 3, 2)
    assert found == Consistency(1.0, 0.5)


def test_pixels_whose_true_class_changes_have_no_vote() -> None:
    """The last pixel's label changes, of the other three one flickers."""
    found = consistency([[0, 1, 2, 0], [0, 1, 0, 1]], [[0, 1, 2, 0], [0, 1, 2, 1]], 2)
    assert found.steady == pytest.approx(2 / 3) and found.steady_and_right == pytest.approx(2 / 3)


def test_one_flicker_costs_every_window_that_it_is_in() -> None:
    """Ten frames of one pixel, wrong in the fifth: of the eight windows of three frames it is in three."""
    preds = [[0]] * 4 + [[1]] + [[0]] * 5
    assert consistency(preds, [[0]] * 10, 3) == Consistency(5 / 8, 5 / 8)


def test_ignored_pixels_have_no_vote_and_a_window_of_such_none_at_all() -> None:
    assert consistency([[0, 1], [0, 0]], [[0, 255], [0, 255]], 2) == Consistency(1.0, 1.0)
    assert consistency([[0], [1]], [[255], [255]], 2) == Consistency(None, None)


def test_no_window_reaches_over_a_cut() -> None:
    """Of two clips of two frames each is steady, and the answers of one are not those of the other."""
    found = VideoConsistency(2)
    for answer in (0, 0, 1, 1):
        found.add(np.array([[answer]]), np.array([[0]]))
    assert found.found == Consistency(2 / 3, 1 / 3)
    found = VideoConsistency(2)
    for at, answer in enumerate((0, 0, 1, 1)):
        if at == 2:
            found.cut()
        found.add(np.array([[answer]]), np.array([[0]]))
    assert found.found == Consistency(1.0, 0.5)


def test_a_clip_shorter_than_a_window_says_nothing() -> None:
    assert consistency([[0]], [[0]], 2) == Consistency(None, None)
    with pytest.raises(ValueError, match="at least 2"):
        VideoConsistency(1)
