"""Capture in a thread of its own: the newest frame of a live source, or every frame of a file a few ahead."""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from edgeprune.base.service_manager import SERVICE_MANAGER
from edgeprune.runtime.cameras.source import CameraStalled, Frame, FrameSource

STALL_S = 10.0  # a camera that gives no frame for as long has stalled
OPENING_S = 10.0  # that opening may take, beside what the first frame may
CLOSE_TIMEOUT_S = 0.3  # a run is ended within a second
LOOK_S = 5.0  # of a wait, between two signs of life: who waits for a frame does not hang

Opener = Callable[[], FrameSource]
Own = TypeVar("Own", bound="Capture")


class Capture(ABC):
    """Hands the frames of a source out in order. It owns the source and closes it.

    Attributes:
        source: what is read; only its attributes may be used.
        dropped: frames dropped since the start.
        reconnects: how often a camera was lost and came back.
    """

    def __init__(self, source: FrameSource):
        self.source = source
        self.dropped = 0
        self.reconnects = 0

    @property
    def patience_s(self) -> float | None:
        """How long a frame is waited for before the camera counts as stalled; None: however long. A file can't stall: it is
        slow to decode, or has pauses of its own."""
        return STALL_S if is_camera(self.source) else None

    @property
    @abstractmethod
    def damaged(self) -> int:
        """Frames that were left out since the start because they decode badly."""

    @property
    def decoder(self) -> str | None:
        """What decodes the frames (`FrameSource.decoder`)."""
        return self.source.decoder

    @abstractmethod
    def get(self, timeout_s: float | None, until_ns: int | None = None) -> tuple[Frame, int] | None:
        """The next frame and how many were dropped since the one before it; None at the end of the stream.

        Frames that are pending come before the end or the error that followed them.

        Args:
            timeout_s: the camera has stalled that gives no frame for so long; None: however long.
            until_ns: by the monotonic clock, when no frame of a live source is wanted any more, which is the end too; None:
                never. What isn't live gives its next frame.

        Raises:
            CameraStalled: no frame for timeout_s.
            InputError, RunError: what the source raised, again at every later call.
        """

    @abstractmethod
    def close(self) -> None:
        """Stops reading."""

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def is_camera(source: FrameSource) -> bool:
    """Whether it is live and no file that is played: it may stall, and be lost."""
    return source.live and not source.paced


class Reading(Capture):
    """Reads a source in a daemon thread. It begins at once, but with a file that is played when its first frame is asked for:
    nobody misses the beginning of a clip while graphs are opened and warmed up.

    Args:
        source: what is read.
        opener: opens it anew, in the thread, for that may take long; `source` then says what it was.
        alive: told, where a frame is waited for, that somebody is at work.
        later: whether it begins when its first frame is asked for, whatever it is.

    Attributes:
        opened: what is read, once it is open.
    """

    def __init__(
        self,
        source: FrameSource,
        opener: Opener | None = None,
        alive: Callable[[], None] = SERVICE_MANAGER.is_alive,
        later: bool = False,
    ):
        super().__init__(source)
        self._alive, self._later = alive, later
        self._opener = opener
        self.opened = None if opener else source
        self._dropped_before = 0
        self._pending: deque[Frame] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name=f"capture {source.uri}", daemon=True)
        self._begun = False
        if not (source.played or later):
            self._begin()

    def _begin(self) -> None:
        with self._changed:
            if not self._begun:
                self._begun = True
                self._thread.start()

    @abstractmethod
    def _admit(self, frame: Frame) -> None:
        """Puts a frame among the pending ones; called with the lock held."""

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            if self._opener:
                self.opened = self._opener()
            assert self.opened is not None
            for frame in self.opened:
                with self._changed:
                    self._admit(frame)
                    self._changed.notify_all()
                    if self._closing:
                        break
        except BaseException as caught:  # handed to the thread that calls get()
            error = caught
        finally:
            if self.opened is not None:
                self.opened.close()
            with self._changed:
                self._error = error
                self._ended = True
                self._changed.notify_all()

    @property
    def damaged(self) -> int:
        return self.opened.damaged if self.opened else 0

    @property
    def decoder(self) -> str | None:
        return self.opened.decoder if self.opened else None

    @property
    def alive(self) -> bool:
        """Whether the thread is still there: it reads, or hangs in a dead camera."""
        return self._thread.is_alive()

    def get(self, timeout_s: float | None, until_ns: int | None = None) -> tuple[Frame, int] | None:
        self._begin()
        if self._later and self.opened is None and timeout_s is not None:
            timeout_s += OPENING_S
        wanted_for_s = timeout_s
        if until_ns is not None and self.source.live:
            left_s = max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
            wanted_for_s = left_s if timeout_s is None else min(timeout_s, left_s)
        with self._changed:
            self._wait(wanted_for_s)
            if self._pending:
                frame = self._pending.popleft()
                dropped = self.dropped - self._dropped_before
                self._dropped_before = self.dropped
                self._changed.notify_all()
                return frame, dropped
            if self._error is not None:
                raise self._error
            if self._ended or wanted_for_s != timeout_s:
                return None
        raise CameraStalled(f"no frame from {self.source.uri} for {timeout_s:g} s; check the camera and run again")

    def _wait(self, wanted_for_s: float | None) -> None:
        """Until there is a frame, or an end; None: however long. Called with the lock held."""
        until_s = None if wanted_for_s is None else time.monotonic() + wanted_for_s
        while not self._pending and not self._ended:
            left_s = LOOK_S if until_s is None else min(LOOK_S, until_s - time.monotonic())
            if left_s <= 0:
                return
            if not self._changed.wait_for(lambda: self._pending or self._ended, left_s):
                self._alive()

    def close(self) -> None:
        """Stops reading. A thread that hangs in a dead camera is left behind: it is a daemon and ends with us. Nor is it waited
        for a second time."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
            begun, self._begun = self._begun, True
            self._ended = self._ended or not begun
        if begun:
            self._thread.join(CLOSE_TIMEOUT_S)
        else:
            self.source.close()


class NewestFrame(Reading):
    """Keeps the newest frame only, so that lag can't grow; the ones it replaces are counted in `dropped`."""

    def _admit(self, frame: Frame) -> None:
        if self._pending:
            self._pending.clear()
            self.dropped += 1
        self._pending.append(frame)


class EveryFrame(Reading):
    """Decodes AHEAD frames ahead and waits until they are taken; drops nothing."""

    AHEAD = 2

    def _admit(self, frame: Frame) -> None:
        self._changed.wait_for(lambda: len(self._pending) < self.AHEAD or self._closing)
        self._pending.append(frame)


def open_capture(
    source: FrameSource,
    opener: Opener | None = None,
    alive: Callable[[], None] = SERVICE_MANAGER.is_alive,
    later: bool = False,
) -> Reading:
    """NewestFrame for a live source, EveryFrame for a file. Arguments as of `Reading`."""
    return (NewestFrame if source.live else EveryFrame)(source, opener, alive, later)
