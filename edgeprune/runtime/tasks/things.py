"""The things that graphs found in a frame, at the frame's own pixels.

A mask leaves the graph at a quarter of the input's height and width, of the whole input. It is enlarged when somebody asks for
it, by Pillow, in C, and only where it can be: in the rectangle that its pixels above one half reach.

Shapes: T things that the graphs give, K of them that are kept, h w pixels of a mask of the whole input, H W pixels of the
frame, c d of a rectangle in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeprune.data.instances import Mask, box_of
from edgeprune.data.polygons import encode_runs
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.engines.engine import Outputs, UInt8

CLASSES, SCORES, BOXES, MASKS = OUTPUTS = ("classes", "scores", "boxes", "masks")  # of a graph
INSIDE = 128  # of 255: a mask's pixel counts where its probability is above one half
ROUNDING = 6  # digits of a place in a mask


class Axis(NamedTuple):
    """How the pixels of a frame lie on those of a mask of the whole input, along one axis.

    Attributes:
        begin: where the frame's first pixel begins, in pixels of the mask.
        step: from one pixel of the frame to the next, in pixels of the mask.
        pixels: of the frame.
        size: of the mask.
    """

    begin: float
    step: float
    pixels: int
    size: int

    def reached(self, first: int, end: int) -> tuple[int, int]:
        """The first pixel of the frame that the mask's from `first` to before `end` have a part in when it is enlarged, and the
        one beyond the last; bilinear interpolation makes nothing that is not in one of the pixels around."""
        reach = max(1.0, self.step)
        before = (first + 0.5 - reach - self.begin) / self.step - 0.5
        beyond = (end - 0.5 + reach - self.begin) / self.step - 0.5
        return max(0, ceil(before)), min(self.pixels, floor(beyond) + 1)

    def span(self, first: int, end: int) -> tuple[float, float]:
        """Where the frame's pixels from `first` to before `end` lie on the mask."""
        return max(0.0, self.begin + first * self.step), min(float(self.size), self.begin + end * self.step)

    @property
    def covered(self) -> slice:
        """The mask's pixels on which the frame lies, in part at least."""
        end = self.begin + self.pixels * self.step
        return slice(floor(round(self.begin, ROUNDING)), ceil(round(end, ROUNDING)))


class Part(NamedTuple):
    """A rectangle of a frame, from row `top` and column `left` on, and the pixels of a thing in it; it has none elsewhere."""

    top: int
    left: int
    mask_cd: Mask

    def within(self, pixels_HW: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The rectangle of an array of the frame; a view."""
        height, width = self.mask_cd.shape
        return pixels_HW[self.top : self.top + height, self.left : self.left + width]


@dataclass(frozen=True, eq=False)
class Thing:
    """One of them.

    Attributes:
        class_id, name: of its class.
        score: 0 to 1.
        box: left, top, right and bottom in pixels of the frame, (0, 0) its corner; cut to the frame, and to a region.
        level_hw: its mask as the graphs gave it: of the whole input, in steps of 1/255.
        around: the smallest box around the pixels of that which are inside: left, top, right, bottom, the last two beyond it.
        down, across: how the frame lies on it.
    """

    class_id: int
    name: str
    score: float
    box: tuple[float, float, float, float]
    level_hw: UInt8
    around: tuple[int, int, int, int]
    down: Axis
    across: Axis

    @cached_property
    def part(self) -> Part:
        """Its pixels; the mask is enlarged when they are first asked for."""
        left, top, right, bottom = self.around
        (top, bottom), (left, right) = self.down.reached(top, bottom), self.across.reached(left, right)
        (first_row, end_row), (first_column, end_column) = self.down.span(top, bottom), self.across.span(left, right)
        enlarged = Image.fromarray(self.level_hw).resize(
            (right - left, bottom - top), Image.Resampling.BILINEAR, (first_column, first_row, end_column, end_row)
        )
        return Part(top, left, np.asarray(enlarged) >= INSIDE)

    @property
    def mask_HW(self) -> Mask:
        """True for the pixels of the frame that it covers; a new array."""
        mask_HW = np.zeros((self.down.pixels, self.across.pixels), np.bool_)
        self.part.within(mask_HW)[:] = self.part.mask_cd
        return mask_HW

    @property
    def pixels(self) -> int:
        """How many pixels of the frame it covers."""
        return int(np.count_nonzero(self.part.mask_cd))

    @property
    def runs(self) -> str:
        """Its mask as COCO's compressed run lengths, of the frame's height and width."""
        return encode_runs(self.part.mask_cd, self.part.top, self.part.left, (self.down.pixels, self.across.pixels))


def read_things(
    outputs: Outputs,
    names: Sequence[str],
    fit: Preprocess,
    size: tuple[int, int],
    least: float,
    inside_hw: Mask | None = None,
) -> tuple[Thing, ...]:
    """The things of a frame, best score first. One that has no pixel in the frame is none.

    Args:
        outputs: OUTPUTS of a graph.
        names: of the classes, by their ids.
        fit: of frames to the input.
        size: height and width of the frame.
        least: score of what is kept.
        inside_hw: True for the pixels of masks inside a region: nothing lies outside; None: all do.
    """
    score_T = outputs[SCORES]
    kept_K = np.flatnonzero((score_T >= least) & (outputs[CLASSES] < len(names)))
    kept_K = kept_K[np.argsort(-score_T[kept_K], kind="stable")]
    level_Khw = outputs[MASKS][kept_K].astype(np.uint8, copy=False)
    if inside_hw is not None:
        level_Khw = level_Khw * inside_hw
    down, across = axes_of(fit, size, level_Khw.shape[1:])
    inside_Khw = level_Khw >= INSIDE
    seen_K, around_K4 = inside_Khw[:, down.covered, across.covered].any((1, 2)), _around(inside_Khw)
    box_K4 = _boxes(outputs[BOXES][kept_K], down, across, inside_hw)
    things = []
    for index in np.flatnonzero(seen_K):
        class_id, (left, top, right, bottom) = int(outputs[CLASSES][kept_K[index]]), box_K4[index].tolist()
        score, box = float(score_T[kept_K[index]]), (left, top, right, bottom)
        first_column, first_row, end_column, end_row = around_K4[index].tolist()
        around = (first_column, first_row, end_column, end_row)
        things.append(Thing(class_id, names[class_id], score, box, level_Khw[index], around, down, across))
    return tuple(things)


def _around(mask_Khw: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The smallest boxes around masks that have a pixel, (K, 4): `box_of` of all of them at once."""
    filled_Kh, filled_Kw = mask_Khw.any(2), mask_Khw.any(1)
    ends = (filled.shape[1] - filled[:, ::-1].argmax(1) for filled in (filled_Kw, filled_Kh))
    return np.stack((filled_Kw.argmax(1), filled_Kh.argmax(1), *ends), axis=1)


def axes_of(fit: Preprocess, size: tuple[int, int], mask_size: tuple[int, ...]) -> tuple[Axis, Axis]:
    """How a frame of `size` (height, width) lies on masks (h, w) of the input that it is fitted to: down and across."""
    (height, width), (rows, columns) = size, mask_size
    top, left, inner_height, inner_width = fit.placement(height, width)
    return (
        Axis(top * rows / fit.height, inner_height * rows / (fit.height * height), height, rows),
        Axis(left * columns / fit.width, inner_width * columns / (fit.width * width), width, columns),
    )


def _boxes(
    share_K4: npt.NDArray[np.floating], down: Axis, across: Axis, inside_hw: Mask | None
) -> npt.NDArray[np.float64]:
    """Boxes in shares of the input -> in pixels of the frame, (K, 4)."""
    mask_px = np.array([across.size, down.size] * 2, np.float64)
    place_K4 = share_K4.astype(np.float64) * mask_px
    if inside_hw is not None and (region := box_of(inside_hw)) is not None:
        place_K4 = np.clip(place_K4, region[:2] * 2, region[2:] * 2)
    frame_K4 = (place_K4 - np.array([across.begin, down.begin] * 2)) / np.array([across.step, down.step] * 2)
    cut_K4: npt.NDArray[np.float64] = np.clip(frame_K4, 0, np.array([across.pixels, down.pixels] * 2))
    return cut_K4
