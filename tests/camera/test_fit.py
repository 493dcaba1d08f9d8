import numpy as np
import pytest

from edgeprune.camera.fit import PADDING_RGB, Fit


def test_same_size_is_returned_as_it_is() -> None:
    image_HW3 = np.zeros((384, 512, 3), np.uint8)
    assert Fit(384, 512).fit(image_HW3) is image_HW3


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
    assert Fit(384, 512).placement(*size) == placement


def test_wide_frame_is_centred_between_grey_bars() -> None:
    fitted = Fit(384, 512).fit(np.full((432, 768, 3), 250, np.uint8))
    assert fitted.shape == (384, 512, 3) and fitted.dtype == np.uint8
    assert (fitted[:48] == PADDING_RGB).all() and (fitted[336:] == PADDING_RGB).all()
    assert (fitted[48:336] == 250).all()


@pytest.mark.parametrize("size", [(432, 768), (360, 480), (1000, 500), (37, 53), (2160, 3840)])
@pytest.mark.parametrize("stride", [1, 4])
def test_labels_come_back_where_they_were(size: tuple[int, int], stride: int) -> None:
    """A frame of four quadrants is fitted and labelled by its colours, at full and at a quarter of the resolution."""
    height, width = size
    quadrant_HW = np.zeros(size, np.uint8)
    quadrant_HW[height // 2 :] += 1
    quadrant_HW[:, width // 2 :] += 2
    fit = Fit(384, 512)
    fitted = fit.fit(np.repeat((quadrant_HW * 60)[..., None], 3, axis=2))
    label_hw = np.round(fitted[stride // 2 :: stride, stride // 2 :: stride, 0] / 60).astype(np.uint8)
    back_HW = fit.unfit(label_hw, height, width)
    assert back_HW.shape == size and back_HW.dtype == np.uint8
    margin = max(2, 8 * height // 384)  # of the blur at the quadrants' borders
    inside = np.ones(size, bool)
    inside[abs(np.arange(height) - height // 2) <= margin] = False
    inside[:, abs(np.arange(width) - width // 2) <= margin] = False
    np.testing.assert_array_equal(back_HW[inside], quadrant_HW[inside])


def test_labels_are_taken_at_pixel_centres() -> None:
    label_hw = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(Fit(4, 4).unfit(label_hw, 8, 8), np.kron(label_hw, np.ones((2, 2), np.uint8)))
    np.testing.assert_array_equal(Fit(4, 4).unfit(label_hw, 2, 2), label_hw[1::2, 1::2])
    np.testing.assert_array_equal(Fit(4, 4).unfit(label_hw, 4, 8), np.kron(label_hw[1:3], np.ones((2, 2), np.uint8)))
