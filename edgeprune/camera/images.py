"""A folder of images (in the order of their names), or a single image."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from edgeprune.camera.source import FrameSource, Picture
from edgeprune.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


def open_images(uri: str, realtime: bool, loop: bool) -> FrameSource:
    """Opens a folder of images, or one image.

    Raises:
        InputError: no images in it, or `realtime` (images have no frame rate).
    """
    path = Path(uri)
    paths = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise InputError(f"no images in {uri}; a folder of {', '.join(IMAGE_SUFFIXES)} files is expected")
    if realtime:
        raise InputError(f"images have no frame rate to play {uri} at; leave --realtime out")
    return Images(uri, paths, loop=loop)


def read_image(path: Path) -> np.ndarray:
    """image_HW3 (uint8 RGB, turned as the camera noted in EXIF).

    Raises:
        InputError: the file is corrupt, cut off, or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path} ({error}); replace it or take it out of the folder") from error


class Images(FrameSource):
    """Every image once, each named by its file name; sizes may differ."""

    def __init__(self, uri: str, paths: list[Path], *, loop: bool):
        super().__init__(uri, live=False, fps=None, loop=loop)
        self._paths = paths

    def one_pass(self) -> Iterator[Picture]:
        for path in self._paths:
            yield Picture(read_image(path), path.name)
