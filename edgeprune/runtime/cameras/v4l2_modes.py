"""What a V4L2 device offers: formats, sizes and rates, as its driver lists them (linux/videodev2.h)."""

import fcntl
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

# what is typed -> (the driver's code, FFmpeg's name)
FORMATS = {
    "yuyv": ("YUYV", "yuyv422"),
    "nv12": ("NV12", "nv12"),
    "yu12": ("YU12", "yuv420p"),
    "uyvy": ("UYVY", "uyvy422"),
    "grey": ("GREY", "gray"),
    "mjpeg": ("MJPG", "mjpeg"),
    "h264": ("H264", "h264"),
}
COMPRESSED = ("mjpeg", "h264")
NAMES = {code: name for name, (code, _) in FORMATS.items()} | {"JPEG": "mjpeg"}
MOST = 256  # entries of a list that are read
CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE
DISCRETE = 1  # V4L2_FRMSIZE_TYPE_DISCRETE, V4L2_FRMIVAL_TYPE_DISCRETE
# ioctls and what they read and write: _IOWR('V', ...) of struct v4l2_fmtdesc, v4l2_frmsizeenum, v4l2_frmivalenum
ENUM_FMT, FMTDESC = 0xC0405602, struct.Struct("=3I32sII12x")
ENUM_FRAMESIZES, FRMSIZE = 0xC02C564A, struct.Struct("=9I8x")
ENUM_FRAMEINTERVALS, FRMIVAL = 0xC034564B, struct.Struct("=11I8x")


class Mode(NamedTuple):
    """A format in a size, and the rates that it has there, the fastest first; none where the driver lists none.

    `most` is the largest size where the driver takes any from this one up.
    """

    format: str
    width: int
    height: int
    rates: tuple[float, ...] = ()
    most: tuple[int, int] | None = None

    def has_size(self, width: int, height: int) -> bool:
        if self.most:
            return self.width <= width <= self.most[0] and self.height <= height <= self.most[1]
        return (self.width, self.height) == (width, height)

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}" + (f" to {self.most[0]}x{self.most[1]}" if self.most else "")
        rates = f" at {', '.join(f'{rate:g}' for rate in self.rates)} fps" if self.rates else ""
        return f"{self.format} {size}{rates}"


def modes_of(device: str) -> list[Mode]:
    """What a device offers, in the driver's order; nothing where it does not say."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # opening it will say why
        return []
    try:
        return [
            mode
            for _, _, _, _, code, _ in _listed(descriptor, ENUM_FMT, FMTDESC, CAPTURE)
            for mode in _sizes(descriptor, code)
        ]
    finally:
        os.close(descriptor)


def _listed(descriptor: int, request: int, layout: struct.Struct, *about: int) -> Iterator[tuple[int, ...]]:
    """Entries 0, 1, 2, ... of a driver's list; a driver ends it, or says that it has none, by an error."""
    for index in range(MOST):
        asked = struct.pack(f"={1 + len(about)}I", index, *about).ljust(layout.size, b"\0")
        try:
            yield layout.unpack(fcntl.ioctl(descriptor, request, asked))
        except OSError:
            return


def _sizes(descriptor: int, code: int) -> Iterator[Mode]:
    name = code.to_bytes(4, "little").decode("ascii", "replace").strip()
    name = NAMES.get(name, name.lower())
    for _, _, kind, width, second, _, least_height, most_height, _ in _listed(
        descriptor, ENUM_FRAMESIZES, FRMSIZE, code
    ):
        if kind == DISCRETE:
            yield Mode(name, width, second, _rates(descriptor, code, width, second))
        else:  # from a width to another in steps, and heights likewise
            yield Mode(name, width, least_height, most=(second, most_height))
            return


def _rates(descriptor: int, code: int, width: int, height: int) -> tuple[float, ...]:
    rates = set()
    for _, _, _, _, kind, numerator, denominator, *_ in _listed(
        descriptor, ENUM_FRAMEINTERVALS, FRMIVAL, code, width, height
    ):
        if kind == DISCRETE and numerator:
            rates.add(round(denominator / numerator, 2))
    return tuple(sorted(rates, reverse=True))
