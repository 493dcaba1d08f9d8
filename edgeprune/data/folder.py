"""Images and label maps in two folders, paired by file stem."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from PIL import Image

from edgeprune.data.samples import Sample, UInt8
from edgeprune.errors import InputError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LABELS = (".png", ".bmp", ".tif", ".tiff")  # lossless: a JPEG of class ids would invent classes


class FolderSamples:
    """The images of a folder that pass every include and no exclude glob, in the order of their stems.

    Args:
        images: the folder of images, any size and mode Pillow reads (given out as RGB).
        labels: the folder of label maps: 8-bit grey or palette images whose values are class ids.
        include: groups of globs over the file stem; a stem must match one of each group.
        exclude: globs over the file stem; a stem that matches one is left out.

    Raises:
        InputError: a folder is missing, holds nothing that fits, or an image has no label.
    """

    def __init__(
        self, images: Path, labels: Path, include: Sequence[Sequence[str]] = (), exclude: Sequence[str] = ()
    ) -> None:
        image_files = _by_stem(images, IMAGES, "images")
        label_files = _by_stem(labels, LABELS, "labels")
        stems = [
            stem
            for stem in sorted(image_files)
            if all(_matches(stem, globs) for globs in include) and not _matches(stem, exclude)
        ]
        if not stems:
            globs = " and ".join(f"[{', '.join(group)}]" for group in include)
            raise InputError(
                f"none of the {len(image_files)} images in {images} is left by include {globs} and "
                f"exclude [{', '.join(exclude)}]; the stems look like {min(image_files)!r}"
            )
        missing = [stem for stem in stems if stem not in label_files]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(stems)} images in {images} have no label: expected "
                f"{labels / missing[0]}.png; add it, or leave the image out with `exclude`"
            )
        self._files = [(image_files[stem], label_files[stem]) for stem in stems]
        self._names = stems

    @property
    def names(self) -> list[str]:
        return self._names

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        image_path, label_path = self._files[index]
        image_HW3 = read_image(image_path)
        label_HW = read_label(label_path)
        if image_HW3.shape[:2] != label_HW.shape:
            raise InputError(
                f"{image_path} is {_size(image_HW3)} but its label {label_path} is {_size(label_HW)}; "
                f"a label needs the size of its image"
            )
        return Sample(self._names[index], image_HW3, label_HW)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return str(self._files[index][1])


def read_image(path: Path) -> UInt8:
    """An image file as RGB, HxWx3.

    Raises:
        InputError: the file is missing, cut off, or no image.
    """
    return np.array(_open(path, "image").convert("RGB"))


def read_label(path: Path) -> UInt8:
    """A label map as class ids, HxW: the grey values of an 8-bit image or the indices of a palette image.

    Raises:
        InputError: the file is missing, cut off, no image, or has colours in place of ids.
    """
    image = _open(path, "label")
    if image.mode not in ("L", "P"):
        raise InputError(
            f"label {path} is a {image.mode!r} image; expected 8-bit class ids (mode 'L') or a palette image (mode 'P')"
        )
    return np.array(image)


def _open(path: Path, what: str) -> Image.Image:
    try:
        image: Image.Image
        with Image.open(path) as image:
            image.load()
        return image
    except FileNotFoundError:
        raise InputError(f"{what} {path} is not there any more; was the data set moved?") from None
    # Pillow's decoders raise any of these on damaged files
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what} {path} can't be read ({reason}); replace or exclude it") from None


def _by_stem(folder: Path, suffixes: tuple[str, ...], what: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{what} folder {folder} is not there; correct `{what}:` or `path:` in the data-set YAML")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if not files:
        raise InputError(f"no {what} in {folder}; expected files that end in {', '.join(suffixes)}")
    by_stem: dict[str, Path] = {}
    for path in files:
        if path.stem in by_stem:
            raise InputError(f"{by_stem[path.stem]} and {path.name} share a stem; keep one of the two")
        by_stem[path.stem] = path
    return by_stem


def _matches(stem: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(stem, glob) for glob in globs)


def _size(pixels: UInt8) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
