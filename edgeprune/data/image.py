"""The one reader of image files: whatever is in the file, uint8 RGB as a person sees it, upright.

Every verb reads pictures here, so that a model is trained, calibrated, scored and run on the same pixels.
"""

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from edgeprune.base.device import MEGAPIXELS_VARIABLE, MOST_MEGAPIXELS, most_megapixels
from edgeprune.base.errors import InputError
from edgeprune.data.samples import UInt8

# what is read, by Pillow's names, and the suffixes by which a folder is searched for it; which of them a file is, its content
# says. No format that Pillow hands to another program (EPS goes to Ghostscript).
FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm",),
}
IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8
SCALED = "scaled"  # key of an opened image's `info`, see `_scale_of_ids`
SCALES: dict[object, int] = {"L;2": 85, "L;4": 17}  # by Pillow's name of the raw form: 3 and 15 become 255

log = logging.getLogger("edgeprune")
# what Pillow thinks of damaged metadata; what matters of it raises, and is then told in one line
logging.getLogger("PIL").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
with suppress(
    AttributeError, OSError
):  # libtiff, inside Pillow, prints to standard error by itself; a null handler does not
    for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        set_handler = getattr(ctypes.CDLL(Image.core.__file__), handler)
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)
_opening = threading.Lock()
_said: set[str] = set()  # kinds of images


def read_image(path: Path) -> UInt8:
    """An image file as RGB (H, W, 3), turned as its EXIF orientation says.

    Palettes are looked up, CMYK is converted, grey is repeated, transparency is left out (what lies under it is shown).
    Levels of more than 8 bits are scaled, and that is said once for each kind: 16 bits by their depth (of a TIFF of 12 bits: by
    12), floating point by its range 0 to 1, or by its own smallest and largest where it leaves that, 32-bit integers likewise.

    Raises:
        InputError: the file is missing, cut off, no image of FORMATS, or has more pixels than are read.
    """
    image = open_upright(path, "image")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _grey_as_rgb(_scale_by_depth(image, path))
    if image.mode in ("I", "F"):
        return _grey_as_rgb(_scale_by_range(np.asarray(image), path))
    try:
        return np.asarray(image.convert("RGB"))
    except ValueError as error:  # LAB, say
        raise InputError(f"image {path} can't be read as RGB ({error}); convert it to PNG or JPEG") from None


def open_upright(path: Path, what: str, formats: tuple[str, ...] = tuple(FORMATS)) -> Image.Image:
    """A decoded image of one of `formats`, turned as its EXIF orientation says; its size is checked before it is decoded.

    Args:
        what: `image` or `label`, for messages.

    Raises:
        InputError: see `read_image`.
    """
    if not path.exists():
        raise InputError(f"{what} {path} is not there any more; was the data set moved?")
    if not path.is_file():
        raise InputError(f"{what} {path} is no regular file; leave it out")
    limit = most_megapixels()
    try:
        with _pillows_own_limit_off():
            image = Image.open(path, formats=formats)
        with image:
            if image.width * image.height > limit * 1e6:
                megapixels = image.width * image.height / 1e6
                larger = f", or set {MEGAPIXELS_VARIABLE}={megapixels + 1:.0f}" if megapixels < MOST_MEGAPIXELS else ""
                raise InputError(
                    f"{what} {path} is {image.width}x{image.height}, {megapixels:.1f} megapixels; at most {limit:g} are read: "
                    f"make it smaller{larger}"
                )
            image.info[SCALED] = _scale_of_ids(image)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        return image
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            f"{what} {path} can't be read: its content, whatever its name, is no {', '.join(formats[:-1])} or {formats[-1]}; "
            "convert or replace it, or leave it out"
        ) from None
    except Exception as error:  # on damaged files Pillow's decoders raise whatever they meet
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what} {path} can't be read ({reason}); replace it or leave it out") from None


def _scale_of_ids(image: ImageFile.ImageFile) -> int:
    """By what Pillow multiplies the grey levels of an image of two or four bits when it loads it."""
    decoder = image.tile[0][3] if image.tile else ""
    return SCALES.get(decoder[0] if isinstance(decoder, tuple) and decoder else decoder, 1)


def ids_of(image: Image.Image) -> npt.NDArray[np.generic]:
    """The ids (H, W) of an opened label of one channel, as the file has them: of one bit 0 and 1, of few bits not scaled."""
    ids_HW = np.asarray(image)
    if ids_HW.dtype == bool:
        return ids_HW.astype(np.uint8)
    return ids_HW // image.info[SCALED] if image.info[SCALED] > 1 else ids_HW


def is_image(path: Path) -> bool:
    """Whether a file's content begins as one of FORMATS does, whatever its name."""
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with _pillows_own_limit_off(), Image.open(path, formats=tuple(FORMATS)):
            return True
    except Exception:  # damaged: not for us to say here
        return False


@contextmanager
def _pillows_own_limit_off() -> Iterator[None]:
    """Pillow warns from 89 megapixels on and raises from 179, for the whole process; here ours is held instead."""
    with _opening:
        own, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = own


def _scale_by_depth(image: Image.Image, path: Path) -> UInt8:
    """Grey levels of up to 16 bits -> 8 bits, the whole depth to the whole depth."""
    bits = int(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0])
    levels_HW = np.asarray(image).astype(np.uint16)
    _say_once(
        f"{bits} bits",
        f"{path}: {bits}-bit grey, its levels {levels_HW.min()} to {levels_HW.max()}; scaled from "
        f"0-{2**bits - 1} to 0-255, and every such image alike",
    )
    of_level = np.round(np.arange(1 << 16) * 255 / (2**bits - 1)).clip(0, 255).astype(np.uint8)
    return of_level[levels_HW]


def _scale_by_range(levels_HW: npt.NDArray[np.number], path: Path) -> UInt8:
    """Floating point or 32-bit grey levels -> 8 bits: 0 to 1 where they lie in it, else their smallest to their largest."""
    levels_HW = levels_HW.astype(np.float32)
    finite_HW = np.isfinite(levels_HW)
    if not finite_HW.any():
        raise InputError(
            f"image {path} can't be read: none of its levels is a finite number; replace it or leave it out"
        )
    low, high = float(levels_HW[finite_HW].min()), float(levels_HW[finite_HW].max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
        _say_once("0 to 1", f"{path}: floating-point grey; scaled from 0-1 to 0-255, and every such image alike")
    else:
        _say_once(
            "own range",
            f"{path}: grey levels from {low:g} to {high:g}, of no fixed depth; scaled from its own range to "
            "0-255, and every such image from its own: 16-bit images would keep one scale",
        )
    levels_HW = np.nan_to_num(levels_HW, nan=low, posinf=high, neginf=low)
    return np.round((levels_HW - low) * (255 / ((high - low) or 1))).astype(np.uint8)


def _grey_as_rgb(grey_HW: UInt8) -> UInt8:
    return np.repeat(grey_HW[..., None], 3, axis=2)


def _say_once(kind: str, line: str) -> None:
    """Warns of a kind of image once in a process: a data set has thousands of them."""
    if kind not in _said:
        _said.add(kind)
        log.warning(line)
