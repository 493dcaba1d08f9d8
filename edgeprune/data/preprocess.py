"""`Preprocess`: any frame -> the size a graph takes, and label maps back to the frame's own pixels.

Train, calibrate, eval, bench and run all take frames through it. A checkpoint (`model.preprocess`) and a manifest
(`preprocess`) name which fit theirs is; files from before that key name none and mean `letterbox`, for that is what `run` did
with their frames, whatever they were trained on.

Shapes: H W pixels of the frame or of the input; h w a label map's own, coarser resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeprune.base.errors import choose
from edgeprune.data.instances import Instances
from edgeprune.data.nearest import nearest_index
from edgeprune.data.samples import Sample, UInt8

# Up to this much is stretched rather than padded: a bar of a few pixels costs the network more than it preserves.
STRETCH = 0.02
# ImageNet's mean colour, a grey that normalisation turns into about zero.
FILL_RGB = (124, 116, 104)
Id = TypeVar("Id", bound=np.generic)


class Placement(NamedTuple):
    """Where the frame lies inside the input, in pixels of the input."""

    top: int
    left: int
    height: int
    width: int


class Described(Protocol):
    """What says how frames are fitted: a `ModelSpec` (in a checkpoint), a `Manifest`."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def preprocess(self) -> str: ...


def letterbox(height: int, width: int, frame_height: int, frame_width: int) -> Placement:
    """Scaled with the aspect kept and centred; aspects that differ by no more than STRETCH fill the input."""
    scale = min(height / frame_height, width / frame_width)
    inner_height = max(1, round(frame_height * scale))
    inner_width = max(1, round(frame_width * scale))
    if inner_height >= height * (1 - STRETCH) and inner_width >= width * (1 - STRETCH):
        return Placement(0, 0, height, width)
    return Placement((height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width)


# input height and width, frame height and width -> where the frame lies. What a name means never changes: bundles hold it.
FITS: dict[str, Callable[[int, int, int, int], Placement]] = {"letterbox": letterbox}
PreprocessName = Literal["letterbox"]  # the keys of FITS


@dataclass(frozen=True)
class Preprocess:
    """Fits frames to height x width. The frames are what `read_image` and the cameras give: upright, uint8 RGB, square pixels.

    Attributes:
        height, width: of the input, in pixels.
        name: a key of FITS, as checkpoint and manifest name it.

    Raises:
        InputError: an unknown name.
    """

    height: int
    width: int
    name: str = "letterbox"

    def __post_init__(self) -> None:
        choose(FITS, self.name, "preprocess")

    @classmethod
    def of(cls, described: Described) -> "Preprocess":
        """The one that a checkpoint's `ModelSpec` or a bundle's manifest names."""
        return cls(described.height, described.width, described.preprocess)

    def placement(self, height: int, width: int) -> Placement:
        """Where a frame of height x width comes to lie."""
        return FITS[self.name](self.height, self.width, height, width)

    def fit(self, image_HW3: UInt8) -> UInt8:
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
        fitted_HW3[:] = _filled_row(self.width)  # whole rows: 20 times as fast as pixel by pixel
        fitted_HW3[top : top + inner_height, left : left + inner_width] = resized
        return fitted_HW3

    def fit_label(self, label_HW: UInt8, ignore_index: int) -> UInt8:
        """A frame's label map -> (height, width), by nearest neighbour; what the frame does not cover is `ignore_index`."""
        if label_HW.shape == (self.height, self.width):
            return label_HW
        top, left, inner_height, inner_width = self.placement(*label_HW.shape)
        fitted_HW = np.full((self.height, self.width), ignore_index, np.uint8)
        fitted_HW[top : top + inner_height, left : left + inner_width] = np.asarray(
            Image.fromarray(label_HW).resize((inner_width, inner_height), Image.Resampling.NEAREST)
        )
        return fitted_HW

    def fit_things(self, things: Instances) -> Instances:
        """A frame's things -> (height, width), by nearest neighbour as its labels; a small one may be left without a pixel."""
        if things.size == (self.height, self.width):
            return things
        top, left, inner_height, inner_width = self.placement(*things.size)
        return things.resized(inner_height, inner_width).placed(self.height, self.width, top, left)

    def fit_sample(self, sample: Sample, ignore_index: int) -> Sample:
        """Image, label and things of a sample at the input's size."""
        image_HW3, label_HW = self.fit(sample.image_HW3), self.fit_label(sample.label_HW, ignore_index)
        return Sample(
            sample.name, image_HW3, label_HW, None if sample.things is None else self.fit_things(sample.things)
        )

    def back(self, label_hw: npt.NDArray[Id], height: int, width: int) -> npt.NDArray[Id]:
        """Labels of a fitted image -> labels of the frame: nearest neighbour, what the frame does not cover cut away.

        Args:
            label_hw: label map of the fitted image at any resolution (a quarter of height x width, say).
            height, width: size of the frame, in pixels.

        Returns:
            (height, width), dtype of label_hw.
        """
        if label_hw.shape == (height, width) == (self.height, self.width):
            return label_hw
        top, left, inner_height, inner_width = self.placement(height, width)
        rows = nearest_index(height, label_hw.shape[0], top, inner_height, self.height)
        columns = nearest_index(width, label_hw.shape[1], left, inner_width, self.width)
        label_HW: npt.NDArray[Id] = label_hw[rows][:, columns]
        return label_HW


@lru_cache(maxsize=4)
def _filled_row(width: int) -> UInt8:
    """(width, 3) of the fill."""
    return np.tile(np.array(FILL_RGB, np.uint8), (width, 1))
