"""A folder of images (in the order of their names, frame9 before frame10), or a single image."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.data import spread
from edgeprune.data.image import IMAGE_SUFFIXES, read_image
from edgeprune.data.pairs import in_time
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.source import FrameSource, Picture


def open_images(uri: str, wanted: Wanted) -> FrameSource:
    """Opens a folder of images, or one image.

    Raises:
        InputError: no images in it, or `realtime` (images have no frame rate).
    """
    paths, below = image_files(uri), folders_below(uri)
    if not paths and below:
        raise InputError(f"no images in {uri} itself, but in folders below it; name one, such as {below[0]}")
    if not paths:
        raise InputError(f"no images in {uri}; a folder of {', '.join(IMAGE_SUFFIXES)} files is expected")
    if wanted.realtime:
        raise InputError(f"images have no frame rate to play {uri} at; leave --realtime out")
    source = Images(uri, [paths[index] for index in spread(len(paths), wanted.spread)], loop=wanted.loop)
    if below:
        more = f" and {len(below) - 1} more of its folders" if len(below) > 1 else ""
        source.note = f"images in {below[0]}{more} are not read: those of {uri} itself are"
    return source


def image_files(uri: str) -> list[Path]:
    """The images of a folder in the order of their names, numbers by their value, or the one that was named."""
    path = Path(uri)
    if path.is_file():
        return [path]
    return sorted(
        (each for each in path.iterdir() if _is_frame(each)), key=lambda each: (in_time(each.stem), each.name)
    )


def folders_below(uri: str) -> list[Path]:
    """The folders in a folder that have images in them, whose images are not read; one that may not be looked into has none."""
    if not os.path.isdir(uri):
        return []
    with os.scandir(uri) as entries:  # which knows of most entries without a look at each
        folders = sorted(Path(each.path) for each in entries if each.is_dir() and not each.name.startswith("."))
    found = []
    for folder in folders:
        with suppress(OSError):
            if any(_is_frame(each) for each in folder.iterdir()):
                found.append(folder)
    return found


def _is_frame(path: Path) -> bool:
    """By its name; hidden files are none (macOS puts a `._x.jpg` beside an x.jpg)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


class Images(FrameSource):
    """Every image once, each named by its file name; sizes may differ."""

    def __init__(self, uri: str, paths: list[Path], *, loop: bool):
        super().__init__(uri, live=False, fps=None, loop=loop)
        self.uri = uri  # a path, in which nothing is secret
        self._paths = paths
        if len(paths) == 1 and _moves(paths[0]):
            self.note = f"{uri} is animated: its first picture is taken; convert it to a video or a GIF for all"

    def one_pass(self) -> Iterator[Picture]:
        for path in self._paths:
            yield Picture(read_image(path), path.name)


def _moves(path: Path) -> bool:
    """Whether it is an animated image or has several pages. (A GIF is taken for a video.)"""
    try:
        with Image.open(path, formats=("WEBP", "PNG", "TIFF")) as image:
            return bool(getattr(image, "n_frames", 1) > 1)
    except Exception:  # Pillow's decoders raise whatever they meet; the reader says what is wrong with it
        return False
