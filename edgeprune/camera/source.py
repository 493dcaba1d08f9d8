"""What every camera is to the rest of edgeprune: an iterator of frames that ends, stalls, breaks off or is unplugged.

Array shapes: image_HW3 (uint8, RGB, display orientation), label_HW (uint8 class ids).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeprune.errors import RunError


class CameraStalled(RunError):
    """A live camera is still there but delivers no frames."""


class CameraUnplugged(RunError):
    """A live camera went away: the device is gone or the connection is lost."""


class StreamTruncated(RunError):
    """A video is cut off or damaged. Raised after every frame that could be decoded has been delivered."""


class Picture(NamedTuple):
    """What a source decodes: image_HW3 (uint8 RGB), a name where it has one, label_HW (uint8) where it is known."""

    image_HW3: np.ndarray
    name: str | None = None
    label_HW: np.ndarray | None = None


@dataclass(frozen=True)
class Frame:
    """One frame as the loop gets it.

    capture_ns is `time.monotonic_ns()` at the moment the frame was decoded and due; index counts every frame of the
    source from 0, those included that a capture drops later.
    """

    capture_ns: int
    image_HW3: np.ndarray
    index: int
    name: str | None = None
    label_HW: np.ndarray | None = None


class FrameSource(ABC):
    """Iterator of `Frame`. A subclass says how one pass over its frames is made; looping and pacing are done here.

    Attributes:
        uri: what the user typed, passwords removed.
        live: frames come whether or not somebody takes them, so that a late consumer must drop some.
        fps: nominal frame rate, or None where there is none.
        note: a line that a person should read before the first frame, or None.

    `next()` raises StopIteration at the end, and CameraStalled, CameraUnplugged or StreamTruncated instead of an end.
    """

    def __init__(self, uri: str, *, live: bool, fps: float | None, loop: bool = False, paced: bool = False):
        self.uri = uri
        self.live = live
        self.fps = fps
        self.note: str | None = None
        self._loop = loop
        self._paced = paced
        self._index = 0
        self._first_due_s = 0.0
        self._pictures = self._passes()

    @abstractmethod
    def one_pass(self) -> Iterator[Picture]:
        """Every picture once, at least one; what it opens it closes when it is exhausted, fails or is closed."""

    def _passes(self) -> Generator[Picture, None, None]:
        yield from self.one_pass()
        while self._loop:
            yield from self.one_pass()

    def __iter__(self) -> "FrameSource":
        return self

    def __next__(self) -> Frame:
        picture = next(self._pictures)
        if self._paced and self.fps:
            if self._index == 0:
                self._first_due_s = time.monotonic()
            time.sleep(max(0.0, self._first_due_s + self._index / self.fps - time.monotonic()))
        frame = Frame(time.monotonic_ns(), picture.image_HW3, self._index, picture.name, picture.label_HW)
        self._index += 1
        return frame

    def close(self) -> None:
        """Ends the stream and frees the device or file. Not while another thread is inside `next()`."""
        self._pictures.close()
