"""Whose frame is next: each camera's frames are fetched by a thread of its own, and the cameras that have one take turns.

One that stalls, or is opened anew, has no frame and so no turn; the others don't wait for it.
"""

import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

from edgeprune.base.ending import asked
from edgeprune.base.service_manager import SERVICE_MANAGER
from edgeprune.runtime.cameras.capture import CLOSE_TIMEOUT_S, Capture
from edgeprune.runtime.cameras.source import Frame

LOOK_S = 0.5  # of a wait, between two signs of life: the loop does not hang, it has nothing to do


class Turn(NamedTuple):
    """A camera's turn: its frame and how many were dropped before it, or that it has ended, and why where it failed."""

    camera: str
    frame: Frame | None
    dropped: int = 0
    error: BaseException | None = None


class _Fetched:
    """The newest frame of a live camera, or the next one of a file, taken from its capture as soon as it is there."""

    def __init__(self, camera: str, capture: Capture, changed: threading.Condition):
        self.camera, self.capture, self.changed = camera, capture, changed
        self.got: tuple[Frame, int] | None = None
        self.served = 0  # the number of its last turn
        self.ended = self.closing = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._fetch, name=f"camera {camera}", daemon=True)
        self.thread.start()

    def _fetch(self) -> None:
        error: BaseException | None = None
        try:
            while not self.closing and (got := self.capture.get(self.capture.patience_s)):
                self._put(*got)
        except BaseException as caught:  # handed to the thread that takes turns
            error = caught
        finally:
            self.capture.close()
            with self.changed:
                self.error, self.ended = error, True
                self.changed.notify_all()

    def _put(self, frame: Frame, dropped: int) -> None:
        with self.changed:
            if not self.capture.source.live:
                self.changed.wait_for(lambda: self.got is None or self.closing)
            if self.got:  # a newer one takes its place
                dropped += self.got[1] + 1
            self.got = frame, dropped
            self.changed.notify_all()


class Turns:
    """The frames of several cameras, one after the other. It owns their captures.

    Of those that have a frame it is the turn of the one whose last turn is longest ago: with frames at hand from all, each gets
    every n-th; a fast one takes no turn of a slow one, and a slow one's frame waits for no more than one of each other.

    Args:
        captures: by the cameras' names.
    """

    def __init__(self, captures: Mapping[str, Capture]):
        self._changed = threading.Condition()
        self._cameras = {name: _Fetched(name, capture, self._changed) for name, capture in captures.items()}
        self._turns = 0

    def take(self, until_ns: int | None = None) -> Turn | None:
        """The next turn; None when all cameras have ended, and at `until_ns` by the monotonic clock.

        Raises:
            KeyboardInterrupt: a signal has come.
        """
        while True:
            if asked():  # a library may have swallowed Ctrl-C
                raise KeyboardInterrupt
            left_s = LOOK_S if until_ns is None else min(LOOK_S, (until_ns - time.monotonic_ns()) / 1e9)
            with self._changed:
                if left_s > 0:
                    self._changed.wait_for(self._is_there, left_s)
                if not self._cameras or left_s <= 0:
                    return None
                if turn := self._next():
                    return turn
            SERVICE_MANAGER.is_alive()

    def _is_there(self) -> bool:
        return any(each.got or each.ended for each in self._cameras.values()) or not self._cameras

    def _next(self) -> Turn | None:
        """A frame, or an end; None where there is neither."""
        ended = next((each for each in self._cameras.values() if each.ended and not each.got), None)
        if ended:
            del self._cameras[ended.camera]
            return Turn(ended.camera, None, error=ended.error)
        ready = [each for each in self._cameras.values() if each.got]
        if not ready:
            return None
        first = min(ready, key=lambda each: each.served)
        assert first.got
        (frame, dropped), first.got = first.got, None
        self._turns += 1
        first.served = self._turns
        self._changed.notify_all()
        return Turn(first.camera, frame, dropped)

    def leave(self, camera: str) -> None:
        """Closes a camera whose frames are not wanted any more."""
        self._close([self._cameras.pop(camera)])

    def close(self) -> None:
        """Closes all that are left; a thread that hangs in a dead camera is left behind."""
        left, self._cameras = list(self._cameras.values()), {}
        self._close(left)

    def _close(self, cameras: list[_Fetched]) -> None:
        with self._changed:
            for each in cameras:
                each.closing = True
            self._changed.notify_all()
        closing = [
            threading.Thread(target=each.capture.close, daemon=True) for each in cameras
        ]  # each may take its time
        for thread in closing:
            thread.start()
        until_s = time.monotonic() + CLOSE_TIMEOUT_S
        for thread in [*closing, *(each.thread for each in cameras)]:
            thread.join(max(0.0, until_s - time.monotonic()))
