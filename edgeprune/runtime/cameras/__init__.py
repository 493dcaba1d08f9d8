"""Cameras: one source per file behind `open_source(uri)`. Adding one is a new file and a row in SOURCES."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from edgeprune.base.errors import InputError, choose, nearest
from edgeprune.base.inputs import look_at
from edgeprune.base.masking import masked_uri
from edgeprune.data.image import IMAGE_SUFFIXES, is_image
from edgeprune.runtime.cameras.csi import open_csi
from edgeprune.runtime.cameras.images import open_images
from edgeprune.runtime.cameras.rtsp import open_rtsp
from edgeprune.runtime.cameras.source import (
    CameraLost,
    CameraStalled,
    CameraUnplugged,
    Frame,
    FrameSource,
    StreamTruncated,
)
from edgeprune.runtime.cameras.synthetic import open_synthetic
from edgeprune.runtime.cameras.v4l2 import open_v4l2
from edgeprune.runtime.cameras.video import open_video

__all__ = [
    "SOURCES",
    "CameraLost",
    "CameraStalled",
    "CameraUnplugged",
    "Frame",
    "FrameSource",
    "StreamTruncated",
    "open_source",
]

# (uri, realtime, loop) -> source. A URI with a scheme names its row; `kind_of` tells the others apart.
SOURCES: dict[str, Callable[[str, bool, bool], FrameSource]] = {
    "v4l2": open_v4l2,
    "video": open_video,
    "images": open_images,
    "rtsp": open_rtsp,
    "csi": open_csi,
    "synthetic": open_synthetic,
}
CAMERAS = ("v4l2", "rtsp", "csi")  # live, and without an end
WITH_SCHEME = {name: SOURCES[name] for name in ("rtsp", "csi", "synthetic")}
VIDEO_BYTES = 1 << 42  # recordings may have terabytes
FILMS_OF_IMAGES = (".mjpeg", ".mjpg")  # one JPEG behind the other: the beginning is that of an image
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
WHAT_TO_TYPE = "0, /dev/video0, a video file, a folder of images, rtsp://..., csi://0 or synthetic://street?seed=1"


def kind_of(uri: str) -> str:
    """The key in SOURCES of what a user typed.

    Raises:
        InputError: an unknown scheme, a file that isn't there, or a name that none can have.
    """
    try:
        return _kind_of(uri)
    except (OSError, ValueError) as error:  # a name too long, a folder that may not be looked into
        reason = getattr(error, "strerror", error)
        raise InputError(f"cannot look for {masked_uri(uri)[:100]!r}: {reason}; type {WHAT_TO_TYPE}") from error


def _kind_of(uri: str) -> str:
    if scheme := SCHEME.match(uri):
        choose(WITH_SCHEME, scheme[1].lower(), "camera scheme")
        return scheme[1].lower()
    if uri.isdecimal() or uri.startswith("/dev/video"):
        return "v4l2"
    path = Path(uri)
    if os.path.isdir(path):
        return "images"
    if not os.path.exists(path):
        raise InputError(
            f"no camera, file or folder {masked_uri(uri)[:300]!r}{nearest(uri, _beside(path))}; type {WHAT_TO_TYPE}"
        )
    # a pipe would block until somebody writes, and so do some files of /proc
    if not look_at(path, "camera", VIDEO_BYTES):
        raise InputError(f"camera {uri[:300]!r} is an empty file; copy or record it again")
    suffix = path.suffix.lower()
    if suffix in FILMS_OF_IMAGES:
        return "video"
    return "images" if suffix in IMAGE_SUFFIXES or is_image(path) else "video"


def _beside(path: Path) -> list[str]:
    try:
        return [str(other) for other in path.parent.iterdir()]
    except (OSError, ValueError):
        return []


def open_source(
    uri: str, *, realtime: bool = False, loop: bool = False, within: tuple[int, int] | None = None
) -> FrameSource:
    """Opens a camera, a video, images or the synthetic street.

    Args:
        uri: see WHAT_TO_TYPE.
        realtime: hand out a file's frames at its own frame rate, as a live source.
        loop: start a file again at its end, for ever.
        within: (height, width) of the input that frames are for: a CSI camera scales them down to it.

    Raises:
        InputError: it isn't there, can't be read, or an option of it is unknown; or `realtime` or `loop` of a camera, which is
            live and has no end.
    """
    kind = kind_of(uri)
    if kind in CAMERAS and (realtime or loop):
        what = "is live anyway; leave --realtime out" if realtime else "has no end to start again at; leave --loop out"
        raise InputError(f"camera {masked_uri(uri)} {what}")
    if scheme := SCHEME.match(uri):  # FFmpeg knows none in capitals
        uri = uri[: scheme.end()].lower() + uri[scheme.end() :]
    if kind == "csi":
        return open_csi(uri, realtime, loop, within)
    return SOURCES[kind](uri, realtime, loop)
