"""PyAV (the optional extra `video`): imported when first needed; frames as players show them."""

import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.data.preprocess import letterbox

# Opening: metadata is not always UTF-8. Decoding: of one thread, as FFmpeg conceals and flags damage in H.264 only then
# (with slice threads, PyAV's default, it does neither; measured, FFmpeg 8.1); pictures of at most 64 megapixels.
METADATA = {"metadata_errors": "replace"}
MAX_PIXELS = 64 * 1024 * 1024


def load_av() -> Any:
    """The module `av`, with FFmpeg's own messages silenced (errors are raised, not printed).

    Raises:
        InputError: PyAV isn't installed.
    """
    try:
        import av
        import av.logging
    except ImportError as error:
        raise InputError(
            f"video files and cameras need PyAV, which cannot be imported ({error}); pip install 'edgeprune[video]'"
        ) from error
    av.logging.set_level(av.logging.PANIC)
    libav = logging.getLogger("libav")  # where PyAV sends what passes the level; nobody else listens
    libav.propagate = False
    if not libav.handlers:
        libav.addHandler(logging.NullHandler())
    return av


class _Readable:
    """A file for PyAV, which prints KeyboardInterrupt of its callbacks and goes on: so that ends the file here.

    Attributes:
        interrupted: whether it came.
    """

    def __init__(self, read: Callable[[int], bytes]):
        self._read = read
        self.interrupted = False

    def read(self, count: int) -> bytes:
        try:
            return b"" if self.interrupted else self._read(count)
        except KeyboardInterrupt:
            self.interrupted = True
            return b""


def open_bytes(read: Callable[[int], bytes], **accel: Any) -> Any:
    """A container of what `read(count)` gives: at most so many bytes, as soon as there are some, and none at the end.

    `accel`: hardware that decodes it (`accel_of`)."""
    readable = _Readable(read)
    try:
        return load_av().open(readable, **METADATA, **accel)
    finally:
        if readable.interrupted:
            raise KeyboardInterrupt


def video_stream(container: Any, *, strict: bool = False) -> Any:
    """The first video stream of an open container, set to decode so that damage is noticed.

    strict: an error raises where it would be concealed; not for what is predicted from other frames, whose good ones
        would be lost with it (measured on H.264 and MPEG-2).

    Raises:
        InputError: there is no decoder for it.
    """
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise InputError(
            f"the video in {container.name} is in a format that PyAV has no decoder for; convert it to H.264 in MP4"
        )
    stream.thread_type = "NONE"
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS), **({"err_detect": "explode"} if strict else {})}
    return stream


# where a packet says of which size its frames are: ISO/IEC 11172-2 and 13818-2, sequence_header (24 bits of sides);
# 14496-2, VideoObjectLayer, up to what follows
SIZES = {
    "mpeg1video": rb"\x00\x00\x01\xb3(...)",
    "mpeg2video": rb"\x00\x00\x01\xb3(...)",
    "mpeg4": rb"\x00\x00\x01[\x20-\x2f](.+?)\x00\x00\x01",
}


class HeldBack:
    """The frame that a decoder still holds where a stream goes on in another size.

    FFmpeg's decoders of MPEG-1, 2 and 4 hold one back, as those behind it may be shown first, and forget it where the size
    changes (measured, FFmpeg 8.1; H.264, HEVC and MJPEG lose none). So it is asked for before.
    """

    def __init__(self, stream: Any):
        self._codec = stream.codec_context
        size = SIZES.get(self._codec.name)
        self._size = re.compile(size, re.DOTALL) if size else None
        self._before: bytes | None = None

    def before(self, packet: Any) -> list[Any]:
        """What is to be taken of the decoder before it gets that packet: mostly nothing."""
        if self._size is None or not packet.is_keyframe:
            return []
        found, before = self._size.search(bytes(packet)), self._before
        if not found or found[1] == before:
            return []
        self._before = found[1]
        if before is None:
            return []
        frames = list(self._codec.decode(None))
        self._codec.flush_buffers()
        return frames


class ToRgb:
    """Decoded video frames -> contiguous uint8 RGB as players show them: square pixels, turned, mirrored.

    One per stream: it keeps its scaler.

    Args:
        within: (height, width) of a model's input, to whose letterbox frames that are larger are scaled while their colours are
            converted: a filter of swscale's (a triangle over the pixels that one replaces, as `Preprocess.fit` has it) on
            luma and chroma by themselves. None: as large as they are.
    """

    def __init__(self, stream: Any, within: tuple[int, int] | None = None) -> None:
        self._reformatter = load_av().video.reformatter.VideoReformatter()
        self._pixel_aspect = plausible_aspect(getattr(stream, "sample_aspect_ratio", None))
        self._within = within

    def __call__(self, frame: Any) -> np.ndarray:
        """A PyAV VideoFrame -> image_HW3."""
        scaled = self.scaled(frame)
        how = {"interpolation": "BILINEAR"} if scaled else {}
        size = scaled or self._square(frame)
        image_HW3 = self._reformatter.reformat(frame, *size, format="rgb24", **how).to_ndarray()
        return as_displayed(image_HW3, display_matrix(frame))

    def scaled(self, frame: Any) -> tuple[int, int] | None:
        """(width, height) that it is scaled to, before it is turned; None where it is not."""
        return (
            inside(self._within, *self._square(frame), is_on_its_side(display_matrix(frame))) if self._within else None
        )

    def _square(self, frame: Any) -> tuple[int, int]:
        """(width, height) of the frame with square pixels."""
        if self._pixel_aspect > 1:  # what is too small is scaled up, so that nothing is lost
            return round(frame.width * self._pixel_aspect), frame.height
        if self._pixel_aspect < 1:
            return frame.width, round(frame.height / self._pixel_aspect)
        return frame.width, frame.height


def inside(within: tuple[int, int], width: int, height: int, on_its_side: bool = False) -> tuple[int, int] | None:
    """(width, height) that a frame is to be scaled to, before it is turned; None where it is no larger than the input."""
    seen = (width, height) if on_its_side else (height, width)
    placed = letterbox(*within, *seen)
    if placed.height >= seen[0] or placed.width >= seen[1]:
        return None
    return (placed.height, placed.width) if on_its_side else (placed.width, placed.height)


def plausible_aspect(ratio: Any) -> float:
    """Width of a pixel over its height; 1 where a file names none, or one that no camera has."""
    return float(ratio) if ratio and 0.25 <= ratio <= 4 else 1.0


def display_matrix(frame: Any) -> tuple[int, int, int, int] | None:
    """a, b, c, d of the transformation that a file wants its frames shown with, x' = ax + cy, y' = bx + dy.

    In 16.16 fixed point, as in libavutil/display.h: phones store portrait video sideways and note the rotation beside
    it, front cameras mirror. None: as stored.

    What `frame.side_data` gives is kept by the frame, and keeps the frame: such pairs are freed by Python's cycle collector
    alone, hundreds of frames later (120 MB of 768x432, of 4K some gigabytes). One of our own goes at once.
    """
    from av.sidedata import sidedata  # whoever has a frame has PyAV

    container: Any = sidedata.SideDataContainer  # its stub leaves the constructor out
    for data in container(frame):
        if getattr(data.type, "name", "") == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
            return a, b, c, d
    return None


def as_displayed(image_HW3: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """The image turned by quarters and mirrored; by other angles than quarters nothing is turned."""
    a, b, c, d = _rounded(matrix)
    if a and d and not b and not c:
        across, down = a, d
    elif is_on_its_side(matrix):
        image_HW3 = image_HW3.swapaxes(0, 1)
        across, down = c, b
    else:
        return image_HW3
    return np.ascontiguousarray(image_HW3[:: 1 if down > 0 else -1, :: 1 if across > 0 else -1])


def is_on_its_side(matrix: tuple[int, int, int, int] | None) -> bool:
    """Whether what a file shows with that matrix is stored with width and height exchanged."""
    a, b, c, d = _rounded(matrix)
    return bool(b and c and not a and not d)


def _rounded(matrix: tuple[int, int, int, int] | None) -> tuple[int, ...]:
    if matrix is None:
        return 0, 0, 0, 0
    largest = max(map(abs, matrix))
    return tuple(value if abs(value) > largest / 8 else 0 for value in matrix)  # cos 90 may be written as a 1
