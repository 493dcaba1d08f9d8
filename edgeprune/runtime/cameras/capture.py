"""Capture in a thread of its own: the newest frame of a live source, or every frame of a file a few ahead."""

import threading
from abc import ABC, abstractmethod
from collections import deque

from edgeprune.runtime.cameras.source import CameraStalled, Frame, FrameSource

STALL_S = 10.0  # a camera that gives no frame for as long has stalled
CLOSE_TIMEOUT_S = 0.3  # a run is ended within a second


class Capture(ABC):
    """Reads a source in a daemon thread and hands its frames out in order. It owns the source and closes it.

    Attributes:
        source: what it reads; only its attributes may be used.
        dropped: frames dropped since the start.
    """

    def __init__(self, source: FrameSource):
        self.source = source
        self.dropped = 0
        self._dropped_before = 0
        self._pending: deque[Frame] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name=f"capture {source.uri}", daemon=True)
        self._thread.start()

    @abstractmethod
    def _admit(self, frame: Frame) -> None:
        """Puts a frame among the pending ones; called with the lock held."""

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for frame in self.source:
                with self._changed:
                    self._admit(frame)
                    self._changed.notify_all()
                    if self._closing:
                        break
        except BaseException as caught:  # handed to the thread that calls get()
            error = caught
        finally:
            self.source.close()
            with self._changed:
                self._error = error
                self._ended = True
                self._changed.notify_all()

    @property
    def patience_s(self) -> float | None:
        """How long a frame is waited for before the camera counts as stalled; None: however long. A file can't stall: it is
        slow to decode, or has pauses of its own."""
        return STALL_S if self.source.live and not self.source.paced else None

    def get(self, timeout_s: float | None) -> tuple[Frame, int] | None:
        """The next frame and how many were dropped since the one before it; None at the end of the stream.

        Frames that are pending come before the end or the error that followed them. timeout_s None: however long.

        Raises:
            CameraStalled: no frame for timeout_s.
            InputError, RunError: what the source raised, again at every later call.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._ended, timeout_s)
            if self._pending:
                frame = self._pending.popleft()
                dropped = self.dropped - self._dropped_before
                self._dropped_before = self.dropped
                self._changed.notify_all()
                return frame, dropped
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
        raise CameraStalled(f"no frame from {self.source.uri} for {timeout_s:g} s; check the camera and run again")

    def close(self) -> None:
        """Stops reading. A thread that hangs in a dead camera is left behind: it is a daemon and ends with us."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_TIMEOUT_S)

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class NewestFrame(Capture):
    """Keeps the newest frame only, so that lag can't grow; the ones it replaces are counted in `dropped`."""

    def _admit(self, frame: Frame) -> None:
        if self._pending:
            self._pending.clear()
            self.dropped += 1
        self._pending.append(frame)


class EveryFrame(Capture):
    """Decodes AHEAD frames ahead and waits until they are taken; drops nothing."""

    AHEAD = 2

    def _admit(self, frame: Frame) -> None:
        self._changed.wait_for(lambda: len(self._pending) < self.AHEAD or self._closing)
        self._pending.append(frame)


def open_capture(source: FrameSource) -> Capture:
    """NewestFrame for a live source, EveryFrame for a file."""
    return NewestFrame(source) if source.live else EveryFrame(source)
