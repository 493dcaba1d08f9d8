"""Frames of any size and shape -> the size a graph takes, and label maps back again."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image

# Up to this much is stretched rather than padded: a bar of a few pixels costs the network more than it preserves.
STRETCH = 0.02
# ImageNet's mean colour, a grey that normalisation turns into about zero.
PADDING_RGB = (124, 116, 104)


class Placement(NamedTuple):
    """Where the frame lies inside the fitted image, in pixels of the fitted image."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Fit:
    """Fits frames to height x width: scaled with their aspect kept, centred, the rest padded grey (letterbox).

    Aspects that differ by no more than STRETCH are stretched and fill the image.
    """

    height: int
    width: int

    def placement(self, height: int, width: int) -> Placement:
        """Where a frame of height x width comes to lie."""
        scale = min(self.height / height, self.width / width)
        inner_height = max(1, round(height * scale))
        inner_width = max(1, round(width * scale))
        if inner_height >= self.height * (1 - STRETCH) and inner_width >= self.width * (1 - STRETCH):
            return Placement(0, 0, self.height, self.width)
        return Placement((self.height - inner_height) // 2, (self.width - inner_width) // 2, inner_height, inner_width)

    def fit(self, image_HW3: np.ndarray) -> np.ndarray:
        """image_HW3 (uint8, any size) -> uint8 (height, width, 3). Bilinear, antialiased where it shrinks.

        An image that has the size already is returned as it is.
        """
        if image_HW3.shape[:2] == (self.height, self.width):
            return np.ascontiguousarray(image_HW3)
        top, left, inner_height, inner_width = self.placement(*image_HW3.shape[:2])
        resized = np.asarray(
            Image.fromarray(image_HW3).resize((inner_width, inner_height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        )
        if (inner_height, inner_width) == (self.height, self.width):
            return resized
        fitted_HW3 = np.empty((self.height, self.width, 3), np.uint8)
        fitted_HW3[:] = _padding_row(self.width)  # whole rows: 20 times as fast as pixel by pixel
        fitted_HW3[top : top + inner_height, left : left + inner_width] = resized
        return fitted_HW3

    def unfit(self, label_hw: np.ndarray, height: int, width: int) -> np.ndarray:
        """Labels of a fitted image -> labels of the frame: nearest neighbour, padding cut away.

        Args:
            label_hw: label map of the fitted image at any resolution (a quarter of height x width, say).
            height, width: size of the frame, in pixels.

        Returns:
            (height, width), dtype of label_hw.
        """
        if label_hw.shape == (height, width) == (self.height, self.width):
            return label_hw
        top, left, inner_height, inner_width = self.placement(height, width)
        rows = _nearest(height, top, inner_height, self.height, label_hw.shape[0])
        columns = _nearest(width, left, inner_width, self.width, label_hw.shape[1])
        frame_label_HW: np.ndarray = label_hw[rows][:, columns]
        return frame_label_HW


@lru_cache(maxsize=4)
def _padding_row(width: int) -> np.ndarray:
    """(width, 3) of padding."""
    return np.tile(np.array(PADDING_RGB, np.uint8), (width, 1))


def _nearest(count: int, start: int, length: int, fitted: int, labels: int) -> np.ndarray:
    """For each of `count` pixels of the frame along one axis, the label whose area holds the pixel's centre."""
    centre_px = start + (np.arange(count) + 0.5) * length / count
    return np.minimum(centre_px * labels / fitted, labels - 1).astype(np.intp)
