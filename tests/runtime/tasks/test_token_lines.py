"""Where lines and shades of tokens lie on a picture."""

import numpy as np
from PIL import Image

from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.first_decision import FirstDecision, TokenMap
from edgeprune.runtime.tasks.token_lines import LET_GO_SHARE, LINE_SHARE, WIDE_PX, draw_tokens

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
