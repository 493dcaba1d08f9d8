"""Network cameras: rtsp://[user:password@]host[:port]/path, through PyAV over TCP with time limits."""

import time
from collections.abc import Iterator
from typing import Any

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.masking import masked_uri
from edgeprune.runtime.cameras.decoding import accel_of
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.live import LiveStream
from edgeprune.runtime.cameras.pyav import METADATA, load_av
from edgeprune.runtime.cameras.source import CameraAway, CameraLost, FrameSource

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0  # without a packet for as long, the camera counts as stalled
# TCP: lost UDP packets smear the picture. No buffering: it is the classic source of growing lag.
OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}

LAST_S = 1.0  # of an announced length that may be missing: the duration of the last frame, and rounding


def open_rtsp(uri: str, wanted: Wanted) -> FrameSource:
    """Connects to a network camera; its source raises CameraStalled after READ_TIMEOUT_S of silence.

    A server that ends the stream is lost, whether it says goodbye (RTCP's BYE, RFC 3550, 6.6: cameras send it when they are
    rebooted) or not.

    Raises:
        InputError: wrong password, no video in it. CameraAway: no answer within OPEN_TIMEOUT_S, refused, no such stream, which
            one that is still starting says as well.
    """
    av = load_av()
    shown = masked_uri(uri)
    accel = accel_of(wanted.decoding)
    began_s = time.monotonic()
    try:
        container = av.open(uri, options=OPTIONS, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S), **METADATA, **accel)
    except (av.error.FFmpegError, OSError, UnicodeError) as error:
        if time.monotonic() - began_s >= OPEN_TIMEOUT_S:  # FFmpeg's error for this differs with how far it got
            raise CameraAway(
                f"no answer from {shown} within {OPEN_TIMEOUT_S:g} s; check the address, the port and the network"
            ) from error
        refused = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError, UnicodeError)
        refusal = InputError if isinstance(error, refused) else CameraAway
        raise refusal(
            f"cannot open {shown}: {getattr(error, 'strerror', error)}; check the address, user:password and stream path"
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError(f"no video in {shown}; name the path of a video stream")
    return NetworkCamera(uri, container, wanted)


class NetworkCamera(LiveStream):
    """A stream without an end: where it ends it is lost, unless all that it had announced has come."""

    def packets(self) -> Iterator[Any]:
        end_s = 0.0
        for packet in self._container.demux(video=0):
            if packet.pts is not None:
                end_s = max(end_s, float(packet.pts * packet.time_base))
            yield packet
        if not self._came_whole(end_s):
            raise self.gone("it ended the stream")

    def _came_whole(self, end_s: float) -> bool:
        """Whether it is a recording of an announced length (SDP's `a=range`), and that was reached."""
        duration = self._container.duration
        return bool(duration) and end_s >= duration / 1e6 - LAST_S

    def gone(self, reason: str) -> RunError:
        return CameraLost(
            f"the connection to camera {self.uri} is lost ({reason}); check the camera and the network, and run again"
        )
