"""A camera that one leaves running: where it stalls, is unplugged or lost, it is opened anew until it is given up."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from edgeprune.base.duration import shown_duration
from edgeprune.base.ending import asked
from edgeprune.base.errors import EdgepruneError, InputError, RunError
from edgeprune.base.service_manager import SERVICE_MANAGER
from edgeprune.runtime.cameras.capture import OPENING_S, Capture, NewestFrame, Opener, is_camera, open_capture
from edgeprune.runtime.cameras.source import (
    CameraAway,
    CameraLost,
    CameraStalled,
    CameraUnplugged,
    Frame,
    FrameSource,
    Picture,
)

logger = logging.getLogger(__name__)

GIVE_UP_S = 300.0  # by default
LOST = (CameraStalled, CameraUnplugged, CameraLost)  # what may pass
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0  # between two attempts: doubled from one to the next
JITTER = 0.2  # of a pause, up and down: cameras that lost the same switch are not all asked at once
STEADY_S = 10.0  # a connection that gave frames for as long lets the next pause be the first again
MOST_HANGING = 4  # threads in dead connections; none is begun beside as many
PROGRESS_S = 60.0  # between two lines that say that it still is not there


class CameraGivenUp(RunError):
    """A live camera was lost and did not come back for as long as one waits."""


class Away(FrameSource):
    """A live camera that could not be opened: lost, until it is opened anew. `error`: why."""

    def __init__(self, uri: str, error: BaseException):
        super().__init__(uri, live=True, fps=None)
        self._error = error

    def one_pass(self) -> Iterator[Picture]:
        raise CameraLost(str(self._error))


class Reconnecting(Capture):
    """The newest frame of a camera, whichever connection it came by. Indices count on from one to the next.

    A camera that is lost before its first frame raises at once, where it is alone and nobody said how long it is waited for:
    a name may be a wrong one.

    Args:
        source: the first connection.
        opener: opens another; its InputError and RunError are failures that may pass.
        give_up_s: from a failure on, so long without a frame; then `CameraGivenUp`.
        alive: told at each attempt, and where a frame is waited for, that somebody is at work.
        name: among several, which go on without it; their addresses may look alike once passwords are hidden.
        from_start: whether it is opened anew also where its first frame never came.
        later: whether `source`, which was there, is closed, and another is opened when the first frame is asked for.
    """

    def __init__(
        self,
        source: FrameSource,
        opener: Opener,
        give_up_s: float,
        alive: Callable[[], None] = SERVICE_MANAGER.is_alive,
        name: str = "",
        from_start: bool = False,
        later: bool = False,
    ):
        super().__init__(source)
        self._from_start = from_start or bool(name) or later
        self._opener, self._give_up_s, self._alive, self._name = opener, give_up_s, alive, name
        self._closed = False
        # of this connection
        self._reading: NewestFrame | None = NewestFrame(source, opener if later else None, alive, later)
        self._hanging: list[NewestFrame] = []  # what is left of those before
        self._given_up: CameraGivenUp | None = None
        self._learned: FrameSource | None = source  # whose rate and note are those of `source`
        self._damaged_before = self._dropped_before = 0
        self._decoder_before: str | None = None
        self._first_index = self._next_index = 0  # of this connection's first frame; of the next frame of all
        self._first_s = self._last_s = 0.0  # when this connection gave its first and its last frame
        self._pause_s = FIRST_PAUSE_S

    @property
    def damaged(self) -> int:
        return self._damaged_before + (self._reading.damaged if self._reading else 0)

    @property
    def decoder(self) -> str | None:
        return (self._reading.decoder if self._reading else None) or self._decoder_before

    def get(self, timeout_s: float | None, until_ns: int | None = None) -> tuple[Frame, int] | None:
        """See `Capture.get`.

        Raises:
            CameraGivenUp: it was lost, and no frame came for `give_up_s`.
        """
        if self._given_up:
            raise self._given_up
        if self._reading is None:  # interrupted while it was lost
            return None
        try:
            return self._frame_of(self._reading, timeout_s, until_ns)
        except (*LOST, CameraAway) as error:  # away: opened later, and not there any more
            if not self._from_start and not self._next_index:
                raise
            return self._reconnect(error, timeout_s, until_ns)

    def _frame_of(
        self, reading: NewestFrame, timeout_s: float | None, until_ns: int | None
    ) -> tuple[Frame, int] | None:
        """A frame of this connection as one of all."""
        got = reading.get(timeout_s, until_ns)
        if got is None:
            return None
        frame, dropped = got
        self._learn(reading)
        self.dropped = self._dropped_before + reading.dropped
        self._next_index = self._first_index + frame.index + 1
        self._last_s = time.monotonic()
        self._first_s = self._first_s or self._last_s
        return replace(frame, index=self._next_index - 1), dropped

    def _learn(self, reading: NewestFrame) -> None:
        """What a camera that was away at the start says of itself, or one that rested; of each connection once."""
        opened = reading.opened
        if opened is None or opened is self._learned:
            return
        self._learned, source = opened, self.source
        if opened.note and opened.note != source.note:
            logger.info(f"camera {self._name}: {opened.note}" if self._name else opened.note)
        source.fps, source.note = opened.fps, opened.note

    def _reconnect(
        self, lost: EdgepruneError, timeout_s: float | None, until_ns: int | None
    ) -> tuple[Frame, int] | None:
        """The first frame of the next connection that gives one; None: the end."""
        if asked():  # a library may have swallowed Ctrl-C
            raise KeyboardInterrupt
        if self._closed:
            return None
        began_s = said_s = time.monotonic()
        of = f"camera {self._name}: " if self._name else ""
        if self._last_s - self._first_s > STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        last: Exception = lost
        attempts = 0
        doing, there = ("reconnecting", "back") if self._next_index or self._name else ("trying again", "there")
        logger.warning(f"{of}{_what(lost)}; {doing} for up to {shown_duration(self._give_up_s)}")
        while self._pause(began_s + self._give_up_s, until_ns):
            attempts += 1
            try:
                got = self._attempt(timeout_s, began_s + self._give_up_s, until_ns)
            except (InputError, RunError) as error:
                # one that waited in vain until the end says less than the one before it
                cut_off = isinstance(error, CameraStalled) and time.monotonic() >= began_s + self._give_up_s
                last = last if cut_off and attempts > 1 else error
                if time.monotonic() - said_s > PROGRESS_S:
                    said_s = time.monotonic()
                    logger.info(f"{of}no frame for {shown_duration(said_s - began_s)}: {_what(last)}")
                continue
            if got:
                self.reconnects += 1
                away = shown_duration(time.monotonic() - began_s)
                logger.info(f"{of or 'camera '}{self.source.uri} is {there} after {away}, with frame {got[0].index}")
            return got
        if self._closed or (until_ns is not None and time.monotonic_ns() >= until_ns):
            return None
        attempted = f"{attempts} attempt{'s' if attempts != 1 else ''} to reconnect"
        why = "" if _what(last) == _what(lost) else f", the last of which ended so: {_what(last)}"
        self._given_up = CameraGivenUp(
            f"{_what(lost)}; given up after {shown_duration(self._give_up_s)} and {attempted}{why}; check it and run again"
        )
        raise self._given_up from last

    def _pause(self, end_s: float, until_ns: int | None) -> bool:
        """Waits for the next attempt; whether there is time for one."""
        until_s = end_s if until_ns is None else min(end_s, until_ns / 1e9)
        # half of the time at most: there is an attempt, however short it is
        pause_s = min(self._pause_s * random.uniform(1 - JITTER, 1 + JITTER), self._give_up_s / 2)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._alive()
        time.sleep(max(0.0, min(pause_s, until_s - time.monotonic())))
        return time.monotonic() < until_s and not self._closed

    def _attempt(self, timeout_s: float | None, end_s: float, until_ns: int | None) -> tuple[Frame, int] | None:
        """The first frame of another connection. What is left of the one before delivers nothing any more.

        Raises:
            InputError, RunError: it gives none.
        """
        self._alive()
        self._leave()
        if len(self._hanging) >= MOST_HANGING:
            raise CameraStalled(f"{len(self._hanging)} connections to {self.source.uri} hang")
        self._reading = NewestFrame(self.source, self._opener, self._alive)
        wait_s = max(0.0, end_s - time.monotonic())
        return self._frame_of(self._reading, min(wait_s, OPENING_S + (timeout_s or wait_s)), until_ns)

    def _leave(self) -> None:
        """Ends this connection, if one is left."""
        self._hanging = [each for each in self._hanging if each.alive]
        if self._reading:
            self._damaged_before, self._dropped_before = self.damaged, self.dropped
            self._decoder_before = self.decoder
            self._first_index, self._first_s, self._last_s = self._next_index, 0.0, 0.0
            self._reading.close()
            if self._reading.alive:
                self._hanging.append(self._reading)
            self._reading = None

    def close(self) -> None:
        self._closed = True
        if self._reading:
            self._reading.close()


def open_or_wait(uri: str, opener: Opener, give_up_s: float | None) -> FrameSource:
    """A source; or what stands for a live camera that is not there, where it was said for how long that is waited for.

    Raises:
        InputError: what `opener` raises; of a camera that is not there with what to type.
    """
    try:
        return opener()
    except CameraAway as error:
        if give_up_s:
            return Away(uri, error)
        if give_up_s is None:
            raise CameraAway(f"{error} (at the start it is not tried again, unless you type --give-up 5m)") from error
        raise


def open_lasting(
    source: FrameSource,
    opener: Opener,
    give_up_s: float,
    alive: Callable[[], None] = SERVICE_MANAGER.is_alive,
    name: str = "",
    from_start: bool = False,
    later: bool = False,
) -> Capture:
    """The frames of a source; of a camera that is opened anew where it is lost, unless `give_up_s` is 0. Else as
    `Reconnecting`. `later`: nothing is decoded, and no camera is open, until the first frame is asked for."""
    if not is_camera(source):
        return open_capture(source, None, alive, later)
    if later:
        source.close()
    if give_up_s:
        return Reconnecting(source, opener, give_up_s, alive, name, from_start, later)
    return open_capture(source, opener if later else None, alive, later)


def _what(error: Exception) -> str:
    """What happened, without what to do about it."""
    return str(error).partition("; ")[0]
