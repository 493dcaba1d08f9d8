"""Several frames of a run at a time: the next one is fitted, and the last one drawn, encoded and written, beside the graphs.

    fit n+1  |  trunk, choose, tail n  |  overlay, encode, record n-1

The graphs stay in the loop's thread, where signals arrive; so does a function of the user's own. At most IN_FLIGHT frames are
between fit and the last sink: a sink that is slow holds the loop up, and a live camera drops what comes meanwhile. What crosses
a thread is nobody else's: outputs of graphs are copies (`engines/bound.py`), and frames are written to by nobody.
"""

import os
import threading
from collections import deque
from collections.abc import Mapping
from queue import SimpleQueue
from time import monotonic, monotonic_ns
from typing import NamedTuple

from edgeprune.base.ending import asked, held, leave_behind
from edgeprune.base.errors import InputError, RunError, choose
from edgeprune.runtime.cameras.capture import is_camera
from edgeprune.runtime.cameras.source import Frame, FrameSource
from edgeprune.runtime.outputs import Outputs, taken_ms
from edgeprune.runtime.row import Row, milliseconds
from edgeprune.runtime.running import Fitted
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.tasks import Result

IN_FLIGHT = 2
# a run is ended within a second
CLOSE_TIMEOUT_S = 0.1  # for a thread that fits, or waits for a camera
HANGING_S = 0.3  # for a sink that writes nothing


class Pipeline(NamedTuple):
    """A row of PIPELINES, by its key: what is done beside the graphs, and that in words."""

    name: str
    outputs: bool
    fit: bool
    said: str

    def open(self, names: Mapping[str, str], source: FrameSource, keep_bytes: int) -> Outputs:
        """The outputs of a run. Raises as `Outputs`."""
        return (OutputsBeside if self.outputs else Outputs)(names, source, keep_bytes)

    def frames(self, stream: Stream, outputs: Outputs) -> "InTurn":
        """Its frames; `outputs`: of `open`."""
        return FitAhead(stream, outputs) if self.fit else InTurn(stream, outputs)


# `off` is the plain loop, one frame after the other; `all` lets a frame wait, fitted, for the graphs: it is taken earlier,
# and its latency counts from there
PIPELINES: dict[str, Pipeline] = {
    "off": Pipeline("off", outputs=False, fit=False, said="one frame after the other"),
    "outputs": Pipeline("outputs", outputs=True, fit=False, said="outputs beside the graphs"),
    "all": Pipeline("all", outputs=True, fit=True, said="fit and outputs beside the graphs"),
}


def choose_pipeline(name: str | None, stream: Stream, cores: int | None = None) -> Pipeline:
    """A row of PIPELINES. Without a name that of outputs beside the graphs, where a core is left for them; a frame is fitted
    ahead only where that is asked for.

    Args:
        cores: of this process; None: counted.

    Raises:
        InputError: an unknown name, one that the stream's budget does not go with, or a camera, whose frames would be old.
    """
    if name is None:
        left = (cores or len(os.sched_getaffinity(0))) - stream.describe()["threads"]
        return PIPELINES["outputs" if left > 0 else "off"]
    refuse_pipeline(name, stream.budget is not None)
    pipeline = choose(PIPELINES, name, "pipeline")
    if pipeline.fit and stream.capture and is_camera(stream.capture.source):
        raise InputError(
            f"--pipeline {name} takes frames before the graphs are free, and those of camera {stream.capture.source.uri} would "
            "be old by then; type --pipeline outputs"
        )
    return pipeline


def refuse_pipeline(name: str | None, budgeted: bool) -> None:
    """Raises InputError for one that a budget does not go with: a frame that waits for the graphs is late by itself."""
    if name and budgeted and choose(PIPELINES, name, "pipeline").fit:
        raise InputError(
            f"--pipeline {name} lets frames wait for the graphs, which --budget counts; type --pipeline outputs"
        )


class Places:
    """Of the frames in flight. Any thread may take one or give one back."""

    def __init__(self, most: int = IN_FLIGHT):
        self._free = most
        self._changed = threading.Condition()
        self._closed = False

    def take(self) -> None:
        """Waits for a place, or until they are closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closed)
            self._free -= 1

    def give_back(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify()

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class OutputsBeside(Outputs):
    """Outputs whose sinks work in a thread of their own, each frame after the one before it.

    What a sink raises is raised by `add`, by `wait_for_place` or by `end`, whichever comes first; no later frame is in any of
    them. A run that is ended from outside waits for frames that are written, until it is asked to end again, but not for a sink
    that writes nothing and hangs.
    """

    def begin(self, first: Frame) -> None:
        super().begin(first)
        self._places = Places()
        self._given: SimpleQueue[tuple[Result, Row] | None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._raised = self._left_behind = self._cut_short = False
        self._showing_s: float | None = None  # since when a frame is in sinks that write nothing
        self._thread = threading.Thread(target=self._work, name="outputs", daemon=True)
        self._thread.start()

    def wait_no_more(self) -> None:
        self._places.close()

    def wait_for_place(self) -> None:
        """Waits until fewer than IN_FLIGHT frames are in flight. Raises as `add`."""
        self._places.take()
        self._raise()

    def add(self, result: Result, row: Row) -> Row:
        """Hands a frame over to the thread, after a function of the user's own. A signal waits until it is handed over.

        Returns:
            the row, with what that function took.

        Raises:
            RunError: a sink could not take this frame, or one before it.
        """
        self._raise()
        row = self._call(result, row)
        with held():
            self._given.put((result, row))
        return row

    def _raise(self) -> None:
        if self._failure:
            self._raised = True
            raise self._failure

    def _work(self) -> None:
        while given := self._given.get():
            start_ns, called_ms = monotonic_ns(), taken_ms(given[1])
            try:
                self._showing_s = monotonic()
                row = self._show(*given)
                self._showing_s = None
                row = self.write(given[0], row)
            except BaseException as error:  # it is raised in the loop's thread
                self._failure = error
                self._places.close()
                return
            self.beside_ms = milliseconds(start_ns, monotonic_ns())
            self.own_ms += self.beside_ms + called_ms - taken_ms(row)
            self._places.give_back()

    def drain(self) -> None:
        self._given.put(None)
        try:
            while self._thread.is_alive() and not self._left_behind:
                self._thread.join(CLOSE_TIMEOUT_S)
                since_s = self._showing_s
                if asked() and since_s is not None and monotonic() - since_s > HANGING_S:
                    self._leave_behind()
        except KeyboardInterrupt:  # Ctrl-C again
            self._leave_behind()
            self._cut_short = True
            raise

    def _leave_behind(self) -> None:
        self._left_behind = True
        leave_behind(self._thread)

    def end(self, failed: bool) -> None:
        """As `Outputs.end`, after the frames that were handed over.

        Raises:
            RunError: as there; or what a sink has raised, and nobody knows yet.
        """
        self.drain()
        if self._cut_short:  # the thread may be writing still
            return
        unknown = None if self._raised else self._failure
        try:
            super().end(failed or self._failure is not None)
        except RunError as error:
            raise RunError(f"{unknown}; {error}") if unknown else error from unknown
        if unknown:
            self._raise()


class Took(NamedTuple):
    """A frame for the graphs.

    Attributes:
        dropped: frames lost before it.
        wait_ms: for the camera.
        away_ms: that the loop's thread did nothing before it: for the camera, a place, or another thread.
        ahead: the frame, fitted already; None: it is not.
    """

    frame: Frame
    dropped: int
    wait_ms: float = 0.0
    away_ms: float = 0.0
    ahead: Fitted | None = None


class InTurn:
    """Frames as they are asked for."""

    def __init__(self, stream: Stream, outputs: Outputs):
        self._stream, self._outputs = stream, outputs

    def take(self, until_ns: int | None) -> Took | None:
        """The next frame, once there is a place for it; None at the end. Raises as `Stream.take` and `wait_for_place`."""
        asked_ns = monotonic_ns()
        self._outputs.wait_for_place()
        free_ns = monotonic_ns()
        got = self._stream.take(until_ns, milliseconds(asked_ns, free_ns), self._outputs.beside_ms)
        got_ns = monotonic_ns()
        return Took(*got, milliseconds(free_ns, got_ns), milliseconds(asked_ns, got_ns)) if got else None

    def end(self) -> None:
        """Nothing is asked for any more."""


class FitAhead(InTurn):
    """Frames that a thread takes and fits while the graphs work. The thread begins with the first that is asked for."""

    def __init__(self, stream: Stream, outputs: Outputs):
        super().__init__(stream, outputs)
        self._fitted: deque[Took] = deque()
        self._until_ns: int | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="fit", daemon=True)

    def take(self, until_ns: int | None) -> Took | None:
        """As `InTurn.take`; what the thread met with comes after the frames before it."""
        asked_ns = monotonic_ns()
        if not self._thread.ident:
            self._until_ns = until_ns
            self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._fitted or self._ended)
            if self._fitted:
                return self._fitted.popleft()._replace(away_ms=milliseconds(asked_ns, monotonic_ns()))
        if self._error:
            raise self._error
        return None

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            while not self._ended and (took := super().take(self._until_ns)):
                took = took._replace(ahead=self._stream.fit(took.frame))
                with self._changed:
                    self._fitted.append(took)
                    self._changed.notify()
        except BaseException as caught:  # handed to the thread that calls take()
            error = caught
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify()

    def end(self) -> None:
        """Takes no frame any more. A thread that waits for a camera ends with that."""
        self._ended = True
        self._outputs.wait_no_more()
        if self._thread.ident:
            self._thread.join(CLOSE_TIMEOUT_S)
