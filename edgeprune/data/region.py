"""A region of interest: the patches of the input that matter where a camera hangs. The bonnet, the sky, a wall may lie outside.

It is written by a calibration, and carried by a bundle, as a line of text for each row of patches: `#` inside, `.` outside.

Shapes: H W pixels, Gh Gw patches of the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import AfterValidator, BeforeValidator, Field

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import look_at
from edgeprune.data.image import read_image
from edgeprune.data.nearest import resize_nearest
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import UInt8

INSIDE, OUTSIDE = "#", "."
MOST = 1024  # patches of a side
LEAST_SHARE = 1e-6  # of a pixel: less is rounding
Bool = npt.NDArray[np.bool_]


def check_row(row: object) -> object:
    """Raises ValueError where a row is no text of patches."""
    if not isinstance(row, str) or not row or set(row) - {INSIDE, OUTSIDE}:
        raise ValueError(
            f'expected {INSIDE} and {OUTSIDE} in quotes, such as "{OUTSIDE}{INSIDE}{INSIDE}{OUTSIDE}": YAML takes an unquoted '
            f"{INSIDE} for a comment"
        )
    return row


def check_rows(rows: Sequence[str]) -> Sequence[str]:
    """Raises ValueError where rows make no grid, or nothing lies inside."""
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"rows of {min(map(len, rows))} to {max(map(len, rows))} patches; expected all of one length")
    if not any(INSIDE in row for row in rows):
        raise ValueError(f"no patch is inside; write {INSIDE} where one is")
    return rows


Row = Annotated[str, Field(max_length=MOST), BeforeValidator(check_row)]
Rows = Annotated[list[Row], Field(min_length=1, max_length=MOST), AfterValidator(check_rows)]


@dataclass(frozen=True)
class Region:
    """The patches that matter. `rows`: as they are written, those of `Rows`."""

    rows: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[str] | None) -> "Region | None":
        """The region of a manifest or a calibration; None where it has none."""
        return None if rows is None else cls(tuple(rows))

    @classmethod
    def of_patches(cls, inside_GG: Bool) -> "Region":
        """The region of the patches that are True."""
        return cls(tuple("".join(np.where(row, INSIDE, OUTSIDE)) for row in inside_GG))

    @property
    def grid(self) -> tuple[int, int]:
        """(Gh, Gw)."""
        return len(self.rows), len(self.rows[0])

    @cached_property
    def inside_GG(self) -> Bool:
        """True for the patches inside."""
        return np.array([list(row) for row in self.rows]) == INSIDE

    @property
    def tokens(self) -> int:
        """Patches inside."""
        return int(self.inside_GG.sum())

    @property
    def share(self) -> float:
        """Of all patches those inside, 0 to 1."""
        return float(self.inside_GG.mean())

    def in_cells(self, side: int) -> "Region":
        """The region rounded outwards to whole cells of side x side patches, which divide the grid."""
        height, width = self.grid
        touched = self.inside_GG.reshape(height // side, side, width // side, side).any((1, 3))
        return Region.of_patches(touched.repeat(side, 0).repeat(side, 1))

    def pixels(self, height: int, width: int) -> Bool:
        """True for the pixels inside, of a map (height, width) of the whole input at any resolution."""
        return resize_nearest(self.inside_GG.astype(np.uint8), height, width) > 0


@dataclass(frozen=True)
class Mask:
    """An image of a camera's frame in which every pixel that isn't black matters.

    Attributes:
        path: of the image.
        height, width: in pixels; those of the camera's frames, or of their aspect.
        preprocess: what fits both to the model's input.
        region: the patches that it touches.
    """

    path: Path
    height: int
    width: int
    preprocess: Preprocess
    region: Region

    def check_frame(self, image_HW3: UInt8) -> None:
        """Raises InputError where the mask is of another aspect than a frame (uint8, H, W, 3)."""
        height, width, _ = image_HW3.shape
        if self.preprocess.placement(height, width) != self.preprocess.placement(self.height, self.width):
            raise InputError(
                f"region {self.path} is {self.width}x{self.height} pixels, the frames are {width}x{height}: expected their "
                "size, or their aspect; draw it on a frame of the camera"
            )


def read_mask(path: Path, preprocess: Preprocess, patch: int) -> Mask:
    """Reads the image of a region.

    Args:
        preprocess: of the model; the mask lies where its frames come to lie.
        patch: pixels of a patch's side.

    Raises:
        InputError: no image, a black one, or one with transparent pixels.
    """
    look_at(path, "region")
    mask_HW = read_image(path).max(-1) > 0
    _refuse_transparency(path)
    fitted_HW = _fit(mask_HW, preprocess)
    rows, columns = (size // patch for size in fitted_HW.shape)
    inside_GG: Bool = fitted_HW.reshape(rows, patch, columns, patch).max((1, 3))
    if not inside_GG.any():
        raise InputError(f"region {path}: nothing matters, every pixel is black; paint white what matters")
    height, width = mask_HW.shape
    return Mask(path, height, width, preprocess, Region.of_patches(inside_GG))


def _fit(mask_HW: Bool, preprocess: Preprocess) -> Bool:
    """The mask at the input's size (H, W): a pixel is True where the mask touches it, a line of a single pixel too."""
    top, left, height, width = preprocess.placement(*mask_HW.shape)
    share_HW = Image.fromarray(mask_HW.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    fitted_HW = np.zeros((preprocess.height, preprocess.width), np.bool_)
    fitted_HW[top : top + height, left : left + width] = np.asarray(share_HW) > LEAST_SHARE
    return fitted_HW


def _refuse_transparency(path: Path) -> None:
    """Raises InputError where an image has it: whether a transparent pixel matters, its colour does not say."""
    with Image.open(path) as image:
        if "A" in image.getbands() or "transparency" in image.info:
            raise InputError(
                f"region {path} has transparent pixels; save it without an alpha channel, black where nothing matters"
            )
