"""Network cameras: rtsp://[user:password@]host[:port]/path, through PyAV over TCP with time limits."""

import re
import time

from edgeprune.camera.pyav import LiveStream, load_av
from edgeprune.camera.source import FrameSource
from edgeprune.errors import InputError

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0  # without a packet for as long, the camera counts as stalled
# TCP: lost UDP packets smear the picture. No buffering: it is the classic source of growing lag.
OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}


def without_password(uri: str) -> str:
    """rtsp://user:password@host/path -> rtsp://user:***@host/path, for messages and records."""
    return re.sub(r"://([^/:@]*):[^/@]*@", r"://\1:***@", uri)


def open_rtsp(uri: str, realtime: bool, loop: bool) -> FrameSource:
    """Connects to a network camera; its source raises CameraStalled after READ_TIMEOUT_S of silence.

    A server that hangs up ends the stream: FFmpeg can't tell that from a file played to its end.

    Raises:
        InputError: no answer within OPEN_TIMEOUT_S, refused, wrong password, no such stream, no video in it.
    """
    av = load_av()
    shown = without_password(uri)
    began_s = time.monotonic()
    try:
        container = av.open(uri, options=OPTIONS, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
    except (av.error.FFmpegError, OSError) as error:
        if time.monotonic() - began_s >= OPEN_TIMEOUT_S:  # FFmpeg's error for this differs with how far it got
            raise InputError(
                f"no answer from {shown} within {OPEN_TIMEOUT_S:g} s; check the address, the port and the network"
            ) from error
        raise InputError(
            f"cannot open {shown}: {error.strerror}; check the address, user:password and stream path"
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError(f"no video in {shown}; name the path of a video stream")
    return LiveStream(shown, container)
