"""USB and other V4L2 cameras: `0`, `/dev/video0` or `/dev/v4l/by-id/...`, through PyAV's v4l2 input.

`/dev/video0?size=1280x720&fps=30&format=mjpeg` asks the driver for a mode; without, it stays in the one that it is set to.
"""

import errno
import glob
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from edgeprune.base.errors import InputError, choose
from edgeprune.runtime.cameras.decoding import accel_of
from edgeprune.runtime.cameras.jpegs import LiveJpegs
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.pyav import load_av
from edgeprune.runtime.cameras.source import CameraAway, FrameSource
from edgeprune.runtime.cameras.v4l2_modes import COMPRESSED, FORMATS, Mode, modes_of

DEVICES = "/dev/video*"
NAMED = ("/dev/v4l/by-id/*", "/dev/v4l/by-path/*")  # links that stay when a camera is plugged in again
OPTIONS = ("size", "fps", "format")
MOST_PX, MOST_FPS = 16384, 1000.0
OPEN_TIMEOUT_S = 10.0  # for the first frame; without one it opens all the same, and stalls
READ_TIMEOUT_S = (
    5.0  # without a frame for as long, the camera counts as stalled; in the dark one may give 5 a second, or 1
)
POLL_S = 0.002  # between two looks for a frame
NONBLOCK = (
    "4"  # AVFMT_FLAG_NONBLOCK of libavformat/avformat.h: else a camera that stalls holds its thread, and the device
)
SHOWN_MODES = 12
GOING = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO)  # of a device that is just being plugged in, or out


class Asked(NamedTuple):
    """What a URI asks of a driver; None: as it is set."""

    size: tuple[int, int] | None = None
    fps: float | None = None
    format: str | None = None


def is_device(uri: str) -> bool:
    """Whether what was typed is a V4L2 device, by its name."""
    device = uri.partition("?")[0]
    return device.isdecimal() or device.startswith(("/dev/video", "/dev/v4l/"))


def open_v4l2(uri: str, wanted: Wanted) -> FrameSource:
    """Opens camera `N`, `/dev/videoN` or a link to one.

    Raises:
        InputError: no permission, not a camera, or a mode that it does not offer (names those that it does). CameraAway: no
            such camera (names those that exist), or in use.
    """
    typed, _, query = uri.partition("?")
    device = f"/dev/video{typed.lstrip('0') or 0}" if typed.isdecimal() else typed
    asked = read_asked(uri, query)
    there = sorted(glob.glob(DEVICES))
    named = sorted(name for pattern in NAMED for name in glob.glob(pattern))
    if device not in (*there, *named):
        listed = ", ".join((*there, *named[:SHOWN_MODES]))
        listed = f"cameras here: {listed}" if listed else f"no camera is connected (nothing at {DEVICES})"
        raise CameraAway(
            f"no camera at {device}; {listed}; type one of these, a video file or synthetic://street?seed=1"
        )
    others = [other for other in there if other != device]
    container = _open(device, _options(device, asked, wanted.within), others, accel_of(wanted.decoding))
    try:
        camera = V4l2Camera(uri, container, wanted)
        _check(device, asked, camera, container)
    except BaseException:
        container.close()
        raise
    return camera


def read_asked(uri: str, query: str) -> Asked:
    """The mode that a URI asks for. Raises InputError for an unknown option (names the nearest) or what is no value of it."""
    size = fps = form = None
    for key, text in parse_qsl(query, keep_blank_values=True):
        choose(dict.fromkeys(OPTIONS), key, f"option of {uri.partition('?')[0]}:")
        if key == "format":
            form = text.lower()
            choose(FORMATS, form, "format of a camera")
        elif key == "size":
            sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
            size = (int(sides[1]), int(sides[2])) if sides else (0, 0)
            if not all(1 <= side <= MOST_PX for side in size):
                raise InputError(f"size={text[:80]!r} is not WIDTHxHEIGHT in pixels; write it as size=1280x720")
        else:
            fps = float(text) if re.fullmatch(r"\d{1,4}(\.\d{1,3})?", text, re.ASCII) else 0.0
            if not 0 < fps <= MOST_FPS:
                raise InputError(f"fps={text[:80]!r} is no rate up to {MOST_FPS:g} frames a second; write it as fps=30")
    return Asked(size, fps, form)


def _options(device: str, asked: Asked, within: tuple[int, int] | None) -> dict[str, str]:
    """FFmpeg's, for the mode that fits best what was asked."""
    if asked == Asked():
        return {}
    modes = modes_of(device)
    mode = _best(modes, asked, within or (MOST_PX, MOST_PX))
    if modes and mode is None:
        listed = "; ".join(map(str, modes[:SHOWN_MODES])) + ("; ..." if len(modes) > SHOWN_MODES else "")
        raise InputError(f"{device} has no {_shown(asked)}; it offers: {listed}")
    options = {}
    form = asked.format or (mode.format if mode else None)
    if form in FORMATS:
        options["input_format"] = FORMATS[form][1]
    size = asked.size or ((mode.width, mode.height) if mode and not mode.most else None)
    if size:
        options["video_size"] = f"{size[0]}x{size[1]}"
    rate = asked.fps or (mode.rates[0] if mode and mode.rates else None)
    return options | ({"framerate": f"{rate:g}"} if rate else {})


def _best(modes: list[Mode], asked: Asked, within: tuple[int, int]) -> Mode | None:
    """Of those that are as asked: the fastest, up to 30 frames a second; the smallest that fills a model's input of `within`
    (height, width), or else the largest; uncompressed."""
    able = [
        mode
        for mode in modes
        if mode.format in FORMATS
        and (asked.format is None or mode.format == asked.format)
        and (asked.size is None or mode.has_size(*asked.size))
        and (asked.fps is None or not mode.rates or any(abs(rate - asked.fps) < 0.1 for rate in mode.rates))
    ]

    def merit(mode: Mode) -> tuple[float, bool, int, bool]:
        fast = asked.fps or min(30.0, mode.rates[0] if mode.rates else 0.0)
        fills, area = mode.height >= within[0] and mode.width >= within[1], mode.width * mode.height
        return fast, fills, -area if fills else area, mode.format not in COMPRESSED

    return max(able, key=merit, default=None)


def _shown(asked: Asked) -> str:
    words = [asked.format or "mode", f"of {asked.size[0]}x{asked.size[1]}" if asked.size else ""]
    return " ".join(word for word in (*words, f"at {asked.fps:g} fps" if asked.fps else "") if word)


def _open(device: str, options: dict[str, str], others: list[str], accel: dict[str, Any]) -> Any:
    av = load_av()
    timeouts_s = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    try:
        return av.open(device, format="v4l2", options={"fflags": NONBLOCK, **options}, timeout=timeouts_s, **accel)
    except PermissionError as error:
        raise InputError(
            f"no permission to open {device}; type: sudo usermod -aG video $USER, and log in again"
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        if error.errno == errno.EBUSY:
            raise CameraAway(f"{device} is in use by another program; close that one and run again") from error
        hint = f"; try {' or '.join(others)}" if others else ""
        refusal = CameraAway if error.errno in GOING else InputError
        raise refusal(f"{device} gives no video ({error.strerror}); it may be a metadata node{hint}") from error


def _check(device: str, asked: Asked, camera: FrameSource, container: Any) -> None:
    """Whether the driver does what it was asked; of another rate it is said."""
    stream = container.streams.video[0]
    given = (stream.codec_context.width, stream.codec_context.height)
    if asked.size and given != asked.size:
        raise InputError(
            f"{device} gives {given[0]}x{given[1]} for size={asked.size[0]}x{asked.size[1]}; type that one"
        )
    if asked.fps and camera.fps and abs(camera.fps - asked.fps) > 0.1:
        camera.note = f"{device} gives {camera.fps:g} frames a second for fps={asked.fps:g}"


class V4l2Camera(LiveJpegs):
    """Frames of a V4L2 device that is read without blocking, each captured when its driver says so."""

    def __init__(self, uri: str, container: Any, wanted: Wanted):
        super().__init__(uri, container, wanted)
        self.uri = uri  # a device and its mode, in which nothing is secret
        self._last_ns = 0

    def packets(self) -> Iterator[Any]:
        """Copies: FFmpeg's own lie in the driver's memory, and one that outlives the device, in a decoder, a raw frame or the
        traceback of an error, ends the process (FFmpeg 8.1, mmap_release_buffer of libavdevice/v4l2.c)."""
        av = load_av()
        last_s = time.monotonic()
        while True:
            try:
                for packet in self._container.demux(video=0):
                    last_s = time.monotonic()
                    copied = av.Packet(bytes(packet))
                    copied.pts, copied.time_base = packet.pts, packet.time_base
                    copied.is_keyframe = packet.is_keyframe
                    del packet
                    if copied.size:
                        yield copied
            except BlockingIOError:
                if time.monotonic() - last_s > READ_TIMEOUT_S:
                    raise TimeoutError from None
                time.sleep(POLL_S)
            else:
                raise self.gone("it delivers nothing more")

    def captured_ns(self, packet: Any) -> int | None:
        """The driver's time, which is of the monotonic clock in most drivers; None where it can't be."""
        if packet.pts is None or packet.time_base is None:
            return None
        captured_ns = round(packet.pts * packet.time_base * 10**9)
        if not self._last_ns < captured_ns <= time.monotonic_ns() <= captured_ns + READ_TIMEOUT_S * 1e9:
            return None
        self._last_ns = captured_ns
        return captured_ns
