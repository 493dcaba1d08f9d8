"""Where lines and shades of tokens lie on a picture."""

import numpy as np
from PIL import Image

from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.first_decision import FirstDecision, TokenMap
from edgeprune.runtime.tasks.token_lines import LET_GO_SHARE, LINE_SHARE, TURN_RGB, WIDE_PX, draw_tokens

GREY = 100
LINE, DARK = GREY + LINE_SHARE * (255 - GREY), GREY * (1 - LET_GO_SHARE)


def drawn(decision: FirstDecision, scores: list[float], fit: Preprocess, height: int, width: int) -> np.ndarray:
    """One channel of a grey picture with the tokens over it."""
    picture = Image.new("RGB", (width, height), (GREY,) * 3)
    draw_tokens(picture, TokenMap(decision, np.array(scores), "small"), fit)
    return np.asarray(picture)[..., 1].astype(float)


def test_what_is_let_go_is_dark() -> None:
    decision = FirstDecision((2, 3), False, {"small": [2]})
    picture_HW = drawn(decision, [9, 0, 0, 0, 8, 0], Preprocess(32, 48), 64, 96)
    expected_HW = np.full((2, 3), DARK)
    expected_HW[0, 0] = expected_HW[1, 1] = GREY
    np.testing.assert_allclose(picture_HW, expected_HW.repeat(32, 0).repeat(32, 1), atol=1)


def test_each_box_is_one_token() -> None:
    """The left one of two cells of 2x2 patches of 8 pixels has merged."""
    decision = FirstDecision((2, 4), True, {"small": [5]})
    picture_HW = drawn(decision, [0, 1], Preprocess(16, 32), 16, 32)
    expected_HW = np.full((16, 32), float(GREY))
    expected_HW[:, [16, 24]] = LINE
    expected_HW[8, 16:] = LINE
    np.testing.assert_allclose(picture_HW, expected_HW, atol=1)


def test_they_lie_where_the_frame_lay_in_the_input() -> None:
    """A flat frame has bars above and below: 16 of 32 pixels are its own, which are two rows of patches of 8."""
    decision = FirstDecision((4, 4), False, {"small": [4]})
    scores = [*[5.0] * 4, *[0.0] * 4, *[9.0] * 4, *[0.0] * 4]
    picture_HW = drawn(decision, scores, Preprocess(32, 32), 80, 160)
    np.testing.assert_allclose(picture_HW[:40], DARK, atol=1)
    np.testing.assert_allclose(picture_HW[40:], GREY, atol=1)


def test_a_wide_picture_has_wider_lines() -> None:
    decision = FirstDecision((2, 4), True, {"small": [5]})
    for width, wide in ((WIDE_PX - 4, 1), (WIDE_PX, 2)):
        picture_HW = drawn(decision, [0, 1], Preprocess(16, 32), width // 2, width)
        assert (picture_HW[0] > GREY + 1).sum() == 2 * wide


def test_whose_turn_it_was_is_framed_and_lines_part_what_was_computed_from_what_was_carried() -> None:
    """Of a grid of 2x3 it is the turn of the ends of the first row, and one token below changed; patches of 20 pixels."""
    decision = FirstDecision((2, 3), False, {"small": [3]}, remembers=True)
    picture_HW = drawn(decision, [10100, 0.1, 10099, 0.3, 0.2, 0], Preprocess(32, 48), 40, 60)
    framed_HW = np.zeros((40, 60), np.bool_)
    for left in (0, 40):
        framed_HW[:20, left : left + 20] = True
        framed_HW[2:18, left + 2 : left + 18] = False
    assert (np.abs(picture_HW - TURN_RGB[1]) < 1)[framed_HW].all()
    inner = [picture_HW[10, 10], picture_HW[10, 30], picture_HW[10, 50], *picture_HW[30, [10, 30, 50]]]
    np.testing.assert_allclose(inner, [GREY, DARK, GREY, GREY, DARK, DARK], atol=1)
    line = DARK + LINE_SHARE * (255 - DARK)
    np.testing.assert_allclose([picture_HW[10, 20], picture_HW[30, 20], picture_HW[20, 50]], line, atol=1)
    assert abs(picture_HW[20, 30] - DARK) < 1  # between two that were carried there is none


def test_a_frame_that_computed_nothing_is_dark() -> None:
    decision = FirstDecision((2, 3), False, {"small": [0]}, remembers=True)
    np.testing.assert_allclose(drawn(decision, [10100, *[0.0] * 5], Preprocess(32, 48), 40, 60), DARK, atol=1)
