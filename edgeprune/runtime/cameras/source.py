"""What every camera is to the rest of edgeprune: an iterator of frames that ends, stalls, breaks off or is unplugged.

Array shapes: image_HW3 (uint8, RGB, display orientation), label_HW (uint8 class ids).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.masking import masked_uri


class CameraAway(InputError):
    """A live camera can't be opened, and may be there later: switched off, not plugged in, still starting, in use. What is
    wrong with its name, its options, its password or this machine is another `InputError`."""


class CameraStalled(RunError):
    """A live camera is still there but delivers no frames."""


class CameraUnplugged(RunError):
    """A live camera went away: the device is gone."""


class CameraLost(RunError):
    """The connection to a network camera is lost, or the camera ended its stream: one that is live has no end."""


class StreamTruncated(RunError):
    """A video is cut off or damaged. Raised after every frame that could be decoded has been delivered."""


class Picture(NamedTuple):
    """What a source decodes: image_HW3 (uint8 RGB), a name where it has one, label_HW (uint8) where it is known.

    presentation_s: when a player shows it, in seconds from the start of a file; grows from picture to picture; None
    where there are no such times (cameras, images). captured_ns: when a driver says that it was captured, by the monotonic
    clock; None: now.
    """

    image_HW3: np.ndarray
    name: str | None = None
    label_HW: np.ndarray | None = None
    presentation_s: float | None = None
    captured_ns: int | None = None


@dataclass(frozen=True)
class Frame:
    """One frame as the loop gets it.

    capture_ns is `time.monotonic_ns()` at the moment its driver captured the frame, or where no driver says, at the moment it
    was decoded and due; index counts every frame of the
    source from 0, those included that a capture drops later. presentation_s is that of the picture; where a file starts
    again at its end, it counts on. camera: what its camera is called in a run of several.
    """

    capture_ns: int
    image_HW3: np.ndarray
    index: int
    name: str | None = None
    label_HW: np.ndarray | None = None
    presentation_s: float | None = None
    camera: str | None = None


class FrameSource(ABC):
    """Iterator of `Frame`. A subclass says how one pass over its frames is made; looping and pacing are done here.

    Attributes:
        uri: what the user typed, secrets hidden.
        live: frames come whether or not somebody takes them, so that a late consumer must drop some.
        fps: nominal frame rate, or None where there is none.
        paced: frames come at times of their own, of a file or a pipe: a long wait for one is no stall.
        played: a file that is played at its own times, from when its first frame is wanted: its clock waits for that.
        damaged: frames that were left out until now because they decode badly.
        decoder: what decodes its frames, `h264 (software, 1 thread)` or `h264 via vaapi`, once there is one; None where nothing
            is decoded.
        note: a line that a person should read before the first frame, or None.
        unpaced: what a person should read where its frames came faster than at their own rate, and so were dropped; None
            where that can't be.

    `next()` raises StopIteration at the end, and CameraStalled, CameraUnplugged, CameraLost or StreamTruncated instead of
    an end.
    """

    def __init__(self, uri: str, *, live: bool, fps: float | None, loop: bool = False, paced: bool = False):
        self.uri = masked_uri(uri)
        self.live = live
        self.fps = fps
        self.paced = self.played = paced
        self.damaged = 0
        self.decoder: str | None = None
        self.note: str | None = None
        self.unpaced: str | None = None
        self._loop = loop
        self._index = 0
        self._first_due_s = 0.0
        self._last_s = 0.0  # the last picture's presentation time, and how long before it another was shown
        self._interval_s = 1 / fps if fps else 0.0
        self._pictures = self._passes()

    @abstractmethod
    def one_pass(self) -> Iterator[Picture]:
        """Every picture once, at least one; what it opens it closes when it is exhausted, fails or is closed."""

    def _passes(self) -> Generator[Picture, None, None]:
        yield from self.one_pass()
        while self._loop:
            again_s = self._last_s + self._interval_s
            for picture in self.one_pass():
                if picture.presentation_s is None:
                    yield picture
                else:
                    yield picture._replace(presentation_s=again_s + picture.presentation_s)

    def __iter__(self) -> "FrameSource":
        return self

    def __next__(self) -> Frame:
        picture = next(self._pictures)
        shown_s = picture.presentation_s
        if self.paced:
            self._wait(self._index / (self.fps or 1.0) if shown_s is None else shown_s)
        if shown_s is not None:
            self._interval_s = shown_s - self._last_s if shown_s > self._last_s else self._interval_s
            self._last_s = shown_s
        captured_ns = time.monotonic_ns() if picture.captured_ns is None else picture.captured_ns
        frame = Frame(captured_ns, picture.image_HW3, self._index, picture.name, picture.label_HW, shown_s)
        self._index += 1
        return frame

    def _wait(self, shown_s: float) -> None:
        """Until a picture is due; the first one is at once."""
        if self._index == 0:
            self._first_due_s = time.monotonic() - shown_s
        time.sleep(max(0.0, self._first_due_s + shown_s - time.monotonic()))

    def close(self) -> None:
        """Ends the stream and frees the device or file. Not while another thread is inside `next()`."""
        self._pictures.close()
