"""A few frames of a place: spread over a whole recording, or over some time of a live camera."""

import logging
import time
from collections.abc import Iterator

from edgeprune.base.ending import asked
from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.cameras.capture import Capture, Opener, open_capture
from edgeprune.runtime.cameras.reconnect import GIVE_UP_S, open_lasting
from edgeprune.runtime.cameras.source import Frame, FrameSource

logger = logging.getLogger(__name__)

PROGRESS_S = 10.0  # between two lines of progress


def sample_frames(
    source: FrameSource, count: int, seconds: float, least: int, opener: Opener | None = None
) -> Iterator[Frame]:
    """Frames of a camera, which is closed at their end.

    Args:
        source: opened with `Wanted(spread=count)`, so that a recording gives these alone.
        count: of frames that are wanted; a recording may have fewer.
        seconds: from the first frame to the last where the camera is live: neighbours show the same.
        least: fewer frames are an error.
        opener: opens a live camera anew that is lost after its first frame, for up to GIVE_UP_S; without, that is an error.

    Raises:
        InputError: the recording has too few; what the source raises.
        RunError: a live camera ended before it gave all, or is given up; what the source raises: it stalls, is unplugged or
            lost.
    """
    taken, said_s = 0, time.monotonic()
    with open_lasting(source, opener, GIVE_UP_S) if opener else open_capture(source) as capture:
        for frame in _over_time(capture, count, seconds) if source.live else _all(capture):
            yield frame
            taken += 1
            if time.monotonic() - said_s > PROGRESS_S:
                said_s = time.monotonic()
                logger.info(f"{source.uri}: {taken} of {count} frames")
    if source.live and taken < count:
        raise RunError(f"{source.uri} ended after {taken} of {count} frames; check the camera, or give fewer --seconds")
    if taken < least:
        raise InputError(f"{source.uri} has {taken} frame{'s' if taken != 1 else ''}; {least} or more are expected")


def _all(capture: Capture) -> Iterator[Frame]:
    while (got := capture.get(capture.patience_s)) is not None:
        if asked():  # a library may have swallowed Ctrl-C
            raise KeyboardInterrupt
        yield got[0]


def _over_time(capture: Capture, count: int, seconds: float) -> Iterator[Frame]:
    """Every frame is taken out of the capture, so that a camera that stalls is noticed at once; few are handed on."""
    step_ns = round(seconds * 1e9 / (count - 1))
    due_ns = 0
    for frame in _all(capture):
        if frame.capture_ns >= due_ns:
            due_ns = frame.capture_ns + step_ns
            count -= 1
            yield frame
        if not count:
            return
