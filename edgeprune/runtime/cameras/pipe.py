"""A stream from another program: standard input (`-`) or a named pipe, in any format that PyAV recognises by its content.

It is live: its writer paces it, and who lagged behind would lag for ever. Silence is no stall, for there is nothing to open
anew; when the writer closes it, it has ended.
"""

import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any

from edgeprune.base.errors import EdgepruneError, InputError
from edgeprune.runtime.cameras.decoding import accel_of
from edgeprune.runtime.cameras.jpegs import LiveJpegs
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.pyav import load_av, open_bytes
from edgeprune.runtime.cameras.source import CameraLost, FrameSource

STANDARD_INPUT = "-"
OPEN_TIMEOUT_S = 30.0  # for what shows which format it is: its writer may have to start first


def open_pipe(uri: str, wanted: Wanted) -> FrameSource:
    """Opens standard input or a named pipe.

    Raises:
        InputError: nobody writes to it within OPEN_TIMEOUT_S, it is a terminal or a file, or no video is in it.
    """
    av, accel = load_av(), accel_of(wanted.decoding)
    shown = _shown(uri)
    pipe = _Pipe(_descriptor(uri), OPEN_TIMEOUT_S)
    try:
        container = open_bytes(pipe.read, **accel)
        if not container.streams.video:
            container.close()
            raise InputError(f"no video in {shown}; write a video stream to it, such as MPEG-TS, Matroska or MJPEG")
        source = PipeStream(uri, container, pipe, wanted)
    except TimeoutError:
        pipe.close()
        raise InputError(
            f"nothing that could be read as video came from {shown} within {OPEN_TIMEOUT_S:g} s; start what writes to it"
        ) from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        pipe.close()
        raise InputError(
            f"cannot read {shown} as video ({getattr(error, 'strerror', None) or error}); write MPEG-TS, Matroska or MJPEG "
            "to it"
        ) from error
    except BaseException:
        pipe.close()
        raise
    pipe.end_s = None
    return source


def _shown(uri: str) -> str:
    """What a person calls it."""
    return "standard input" if uri == STANDARD_INPUT else uri


def _descriptor(uri: str) -> int:
    if uri != STANDARD_INPUT:
        try:
            return os.open(uri, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # it doesn't wait for a writer
        except OSError as error:
            raise InputError(f"cannot open {uri}: {error.strerror}; check the path and its permissions") from error
    try:
        descriptor = os.dup(sys.__stdin__.fileno() if sys.__stdin__ else 0)
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError) as error:
        raise InputError("standard input is closed; pipe a stream into it, or name another camera") from error
    if os.isatty(descriptor) or stat.S_ISREG(mode):
        os.close(descriptor)
        what = "a file; give its name to --camera" if stat.S_ISREG(mode) else "a terminal; pipe a video stream into it"
        raise InputError(f"standard input is {what}")
    return descriptor


class _Pipe:
    """What is there, without waiting for more.

    Attributes:
        end_s: by the monotonic clock, until when something has to come; None: it is waited for however long.
    """

    def __init__(self, descriptor: int, timeout_s: float):
        self._descriptor = descriptor
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLIN)
        self.end_s: float | None = time.monotonic() + timeout_s

    def read(self, count: int) -> bytes:
        """At least one byte; none at the end. Raises TimeoutError."""
        while True:
            left_ms = None if self.end_s is None else max(0.0, self.end_s - time.monotonic()) * 1000
            if not self._ready.poll(left_ms):
                raise TimeoutError
            try:
                return os.read(self._descriptor, count)
            except BlockingIOError:  # somebody else has read it
                continue

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class PipeStream(LiveJpegs):
    """What comes out of a pipe, until its writer closes it."""

    def __init__(self, uri: str, container: Any, pipe: _Pipe, wanted: Wanted):
        super().__init__(uri, container, wanted)
        self.uri = uri  # a path, in which nothing is secret
        self.paced = True
        self.unpaced = (
            f"{_shown(uri)} is live, and what writes to it paces it; write as `ffmpeg -re -i FILE -c copy -f mpegts -` does, "
            "or give the file itself to --camera for each of its frames"
        )
        self._pipe = pipe

    def _wait(self, shown_s: float) -> None:
        """Its writer does that."""

    def packets(self) -> Iterator[Any]:
        yield from self._container.demux(video=0)

    def gone(self, reason: str) -> EdgepruneError:
        """Before the first frame the stream is none for a pipe: an MP4 has its index behind its frames, and a pipe does not go
        back to them."""
        shown = _shown(self.uri)
        if self._index:
            return CameraLost(f"the stream from {shown} breaks off ({reason}); check what writes it and run again")
        return InputError(
            f"this stream can't be read from a pipe ({reason}), as most MP4 and MOV files can't; write MPEG-TS or Matroska to "
            f"{shown}, or give the file itself to --camera"
        )

    def close(self) -> None:
        super().close()
        self._pipe.close()
