"""Cameras: one source per file behind `open_source(uri)`. Adding one is a new file and a row in SOURCES."""

import os
import re
from pathlib import Path

from edgeprune.base.errors import InputError, choose, nearest
from edgeprune.base.inputs import look_at
from edgeprune.base.masking import masked_uri, show_values_of
from edgeprune.base.paths import from_home
from edgeprune.data.image import IMAGE_SUFFIXES, is_image
from edgeprune.runtime.cameras import csi, synthetic, v4l2
from edgeprune.runtime.cameras.csi import open_csi
from edgeprune.runtime.cameras.images import open_images
from edgeprune.runtime.cameras.kind import AS_IT_COMES, CameraKind, Wanted
from edgeprune.runtime.cameras.pipe import STANDARD_INPUT, open_pipe
from edgeprune.runtime.cameras.rtsp import open_rtsp
from edgeprune.runtime.cameras.source import (
    CameraAway,
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
from edgeprune.runtime.cameras.web import open_web

__all__ = [
    "SOURCES",
    "CameraAway",
    "CameraKind",
    "CameraLost",
    "CameraStalled",
    "CameraUnplugged",
    "Frame",
    "FrameSource",
    "StreamTruncated",
    "Wanted",
    "camera_files",
    "open_source",
    "refuse_undecoded",
    "seen_from",
    "what_to_type",
]

# A URI with a scheme names its row; `kind_of` tells the others apart.
SOURCES: dict[str, CameraKind] = {
    "v4l2": CameraKind(open_v4l2, "0, /dev/video0", endless=True, options=v4l2.OPTIONS, decodes=True),
    "video": CameraKind(open_video, "a video file", files=lambda path: [Path(path)], decodes=True),
    "images": CameraKind(open_images, "a folder of images", files=lambda path: [Path(path)]),
    "pipe": CameraKind(open_pipe, "- for standard input", endless=True, decodes=True),
    "rtsp": CameraKind(open_rtsp, "rtsp://...", scheme=True, endless=True, decodes=True),
    "rtsps": CameraKind(open_rtsp, "rtsps://...", scheme=True, endless=True, decodes=True),
    "http": CameraKind(open_web, "http://...", scheme=True, endless=True, decodes=True),
    "https": CameraKind(open_web, "https://...", scheme=True, endless=True, decodes=True),
    "csi": CameraKind(open_csi, "csi://0", scheme=True, endless=True, options=csi.OPTIONS),
    "synthetic": CameraKind(open_synthetic, "synthetic://street?seed=1", scheme=True, options=synthetic.OPTIONS),
}
for _kind in SOURCES.values():
    show_values_of(_kind.options)

VIDEO_BYTES = 1 << 42  # recordings may have terabytes
FILMS_OF_IMAGES = (".mjpeg", ".mjpg")  # one JPEG behind the other: the beginning is that of an image
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def what_to_type() -> str:
    """`0, /dev/video0, a video file, ... or synthetic://street?seed=1`: the choices, for a person."""
    *others, last = [kind.typed for kind in SOURCES.values()]
    return f"{', '.join(others)} or {last}"


def kind_of(uri: str) -> str:
    """The key in SOURCES of what a user typed.

    Raises:
        InputError: an unknown scheme, a file that isn't there, or a name that none can have.
    """
    try:
        return _kind_of(uri)
    except (OSError, ValueError) as error:  # a name too long, a folder that may not be looked into
        reason = getattr(error, "strerror", error)
        raise InputError(
            f"cannot look for {masked_uri(uri)[:100]!r}: {reason}; a camera is {what_to_type()}"
        ) from error


def _kind_of(uri: str) -> str:
    if scheme := SCHEME.match(uri):
        with_scheme = {name: name for name, kind in SOURCES.items() if kind.scheme}
        return choose(with_scheme, scheme[1].lower(), "camera scheme")
    if v4l2.is_device(uri):
        return "v4l2"
    path = Path(uri)
    if uri == STANDARD_INPUT or path.is_fifo():
        return "pipe"
    if os.path.isdir(path):
        return "images"
    if not os.path.exists(path):
        raise InputError(
            f"no camera, file or folder {masked_uri(uri)[:300]!r}{nearest(uri, _beside(path))}; a camera is {what_to_type()}"
        )
    # some files of /proc would block
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


def camera_files(uri: str) -> list[Path]:
    """What a camera reads: a video, an image, a folder of images. Raises InputError as `kind_of`."""
    return SOURCES[kind_of(uri)].files(uri)


def refuse_undecoded(uri: str) -> None:
    """Raises InputError where `--decode` says nothing: the frames of that camera are no compressed video; or as `kind_of`."""
    name = kind_of(uri)
    if not SOURCES[name].decodes:
        hint = "; scale=0 in its URI leaves its frames as large as they are" if name == "csi" else ""
        raise InputError(f"--decode is of compressed video, which {masked_uri(uri)} is not{hint}; leave it out")


def seen_from(uri: str, folder: Path) -> str:
    """What a file in `folder` says of a camera, as it is typed anywhere: a path is meant from there."""
    if uri == STANDARD_INPUT or SCHEME.match(uri) or v4l2.is_device(uri):
        return uri
    return str(folder / from_home(uri))


def open_source(uri: str, wanted: Wanted = AS_IT_COMES) -> FrameSource:
    """Opens a camera, a video, images or the synthetic street.

    Args:
        uri: see `what_to_type`.
        wanted: how its frames are.

    Raises:
        InputError: it isn't there, can't be read, or an option of it is unknown; or `realtime` or `loop` of a camera, which is
            live and has no end. CameraAway: it is live, and may be there later.
    """
    kind = SOURCES[kind_of(uri)]
    if kind.endless and (wanted.realtime or wanted.loop):
        what = (
            "is live anyway; leave --realtime out"
            if wanted.realtime
            else "has no end to start again at; leave --loop out"
        )
        raise InputError(f"camera {masked_uri(uri)} {what}")
    if scheme := SCHEME.match(uri):  # FFmpeg knows none in capitals
        uri = uri[: scheme.end()].lower() + uri[scheme.end() :]
    return kind.open(uri, wanted)
