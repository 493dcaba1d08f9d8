"""One object fits frames and labels to a model's input, and labels back to the frame's own pixels."""

from fractions import Fraction
from typing import get_args

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data import Sample
from edgeprune.data.preprocess import FILL_RGB, FITS, Preprocess, PreprocessName
from edgeprune.model.spec import ModelSpec


def test_same_size_is_returned_as_it_is() -> None:
    image_HW3 = np.zeros((384, 512, 3), np.uint8)
    assert Preprocess(384, 512).fit(image_HW3) is image_HW3


@pytest.mark.parametrize(
    ("size", "placement"),
    [
        ((360, 480), (0, 0, 384, 512)),
        ((432, 768), (48, 0, 288, 512)),
        ((1000, 500), (0, 160, 384, 192)),
        ((380, 512), (0, 0, 384, 512)),  # 1% off: stretched
        ((370, 512), (7, 0, 370, 512)),  # 4% off: padded
    ],
)
def test_placement(size: tuple[int, int], placement: tuple[int, int, int, int]) -> None:
    assert Preprocess(384, 512).placement(*size) == placement


def test_wide_frame_is_centred_between_grey_bars() -> None:
    fitted = Preprocess(384, 512).fit(np.full((432, 768, 3), 250, np.uint8))
    assert fitted.shape == (384, 512, 3) and fitted.dtype == np.uint8
    assert (fitted[:48] == FILL_RGB).all() and (fitted[336:] == FILL_RGB).all()
    assert (fitted[48:336] == 250).all()


@pytest.mark.parametrize("size", [(432, 768), (360, 480), (1000, 500), (37, 53), (2160, 3840)])
@pytest.mark.parametrize("stride", [1, 4])
def test_labels_come_back_where_they_were(size: tuple[int, int], stride: int) -> None:
    """A frame of four quadrants is fitted and labelled by its colours, at full and at a quarter of the resolution."""
    height, width = size
    quadrant_HW = np.zeros(size, np.uint8)
    quadrant_HW[height // 2 :] += 1
    quadrant_HW[:, width // 2 :] += 2
    fit = Preprocess(384, 512)
    fitted = fit.fit(np.repeat((quadrant_HW * 60)[..., None], 3, axis=2))
    label_hw = np.round(fitted[stride // 2 :: stride, stride // 2 :: stride, 0] / 60).astype(np.uint8)
    back_HW = fit.back(label_hw, height, width)
    assert back_HW.shape == size and back_HW.dtype == np.uint8
    margin = max(2, 8 * height // 384)  # of the blur at the quadrants' borders
    inside = np.ones(size, bool)
    inside[abs(np.arange(height) - height // 2) <= margin] = False
    inside[:, abs(np.arange(width) - width // 2) <= margin] = False
    np.testing.assert_array_equal(back_HW[inside], quadrant_HW[inside])


def test_labels_are_taken_at_pixel_centres() -> None:
    label_hw = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(Preprocess(4, 4).back(label_hw, 8, 8), np.kron(label_hw, np.ones((2, 2), np.uint8)))
    np.testing.assert_array_equal(Preprocess(4, 4).back(label_hw, 2, 2), label_hw[1::2, 1::2])
    np.testing.assert_array_equal(
        Preprocess(4, 4).back(label_hw, 4, 8), np.kron(label_hw[1:3], np.ones((2, 2), np.uint8))
    )


def test_labels_of_a_frame_lie_where_its_picture_lies() -> None:
    """16:9 in 4:3: the frame between bars, and bars are ignored; labels are repeated, never mixed."""
    label_HW = np.zeros((432, 768), np.uint8)
    label_HW[:, 384:] = 7
    sample = Sample("wide", np.repeat(label_HW[..., None] * 30, 3, axis=2), label_HW)
    fitted = Preprocess(384, 512).fit_sample(sample, ignore_index=255)
    assert (fitted.label_HW[:48] == 255).all() and (fitted.label_HW[336:] == 255).all()
    assert (fitted.label_HW[48:336, :256] == 0).all() and (fitted.label_HW[48:336, 256:] == 7).all()
    assert (fitted.image_HW3[:48] == FILL_RGB).all() and (fitted.image_HW3[48:336, 258:] == 210).all()
    back_HW = Preprocess(384, 512).back(fitted.label_HW, 432, 768)
    np.testing.assert_array_equal(back_HW, label_HW)
    assert Preprocess(432, 768).fit_label(label_HW, 255) is label_HW


@pytest.mark.parametrize(("count", "labels"), [(360, 192), (480, 256), (101, 7), (7, 101), (3000, 128)])
def test_nearest_labels_are_exact(count: int, labels: int) -> None:
    """In fractions; a centre on a border belongs to the label that begins there."""
    ramp_HW = np.arange(labels)[None]
    expected = [int(Fraction(2 * index + 1, 2 * count) * labels) for index in range(count)]
    found_HW = Preprocess(count, 8).back(ramp_HW.T, count, 8)
    assert found_HW[:, 0].tolist() == expected


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="unknown preprocess 'stretch'; choices: letterbox"):
        Preprocess(4, 4, "stretch")


def test_a_checkpoint_and_a_manifest_may_name_what_there_is() -> None:
    assert set(FITS) == set(get_args(PreprocessName))
    assert Preprocess.of(ModelSpec(height=64, width=96)) == Preprocess(64, 96, "letterbox")
