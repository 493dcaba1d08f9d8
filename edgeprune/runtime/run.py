"""The camera loop: one frame after the other through the graphs, on record; a failure keeps what was recorded.

wait | fit -> trunk -> choose -> tail | overlay -> encode | record: `latency_ms` is from fit to tail, the frame in hand
to its labels in hand. What is done beside the graphs of another frame stands in `pipeline.py`.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from edgeprune.base.ending import asked, at_stop, ending
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.service_manager import SERVICE_MANAGER
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.measured import Measured
from edgeprune.runtime.meters import Meter
from edgeprune.runtime.own_time import OwnTime
from edgeprune.runtime.pipeline import Pipeline, Took, choose_pipeline
from edgeprune.runtime.recorded import Recorded, failure_of
from edgeprune.runtime.sinks.segments import KEEP_BYTES
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.summary import RunSummary
from edgeprune.runtime.tasks import Result

logger = logging.getLogger(__name__)

PROGRESS_S = 5.0  # between two lines of progress


class CutShort(RunError):
    """The end of a run was itself ended, by a second Ctrl-C."""


@dataclass(frozen=True)
class Limits:
    """When a run ends by itself: after so many frames, or so long, counted from the first frame; None: with its stream."""

    frames: int | None = None
    seconds: float | None = None


class Outcome(NamedTuple):
    """What a run gives: its summary, and the failure that ended it (exit code 3), if one did."""

    summary: RunSummary
    failure: RunError | None


def run(
    stream: Stream,
    meter: Meter,
    limits: Limits | None = None,
    outputs: Mapping[str, str] | None = None,
    idle_w: Mapping[str, float] | None = None,
    keep_bytes: int = KEEP_BYTES,
    pipeline: str | None = "off",
) -> Outcome:
    """Runs until the stream ends, a limit is reached, Ctrl-C or SIGTERM, or a failure. Closes the camera, not the graphs.

    Args:
        stream: with a camera.
        meter: runs from before the first row to after the last; waiting, decoding, overlay and encoding included.
        outputs: what is written, by the keys of SINKS: {"out": "overlay.mp4", "record": "rows.csv"}.
        keep_bytes: that each output without an end, such as {"record": "rows/"}, may have on the disk.
        idle_w: what the machine takes when idle (`measure_idle`), to subtract.
        pipeline: a key of PIPELINES, what is done beside the graphs; None: as `choose_pipeline` has it.

    Returns:
        The summary, of what was processed even where a failure ended the run. Its files then stay under the partial
        names that `outputs` of the summary gives; they are whole up to the last frame.

    Raises:
        InputError: before the first frame: nothing can be read from the source, or an output can't be written.
        RunError: the camera gave no first frame.
        CutShort: a second Ctrl-C came before the files were finished.
    """
    capture = stream.capture
    if capture is None:
        raise InputError("a run needs a camera; open the stream with one")
    try:
        beside = choose_pipeline(pipeline, stream)
        written = beside.open(outputs or {}, capture.source, keep_bytes)
        recorded = Recorded(capture, written)
        try:
            recorded.learn(stream, meter)
            first = capture.get(stream.patience_s)
            if first is None:
                raise InputError(f"{capture.source.uri} has no frames; name another camera, file or folder")
            written.begin(first[0])
        except BaseException:
            written.discard()
            raise
        loop = _Loop(stream, recorded, Measured(meter, idle_w), beside)
        try:
            return loop.run(first, limits or Limits())
        except KeyboardInterrupt as error:  # Ctrl-C again, in the end that the first one made
            raise loop.cut_short() from error
    finally:
        with ending():
            capture.close()


class _Loop:
    """One run: the state that passes from frame to frame."""

    def __init__(self, stream: Stream, recorded: Recorded, measured: Measured, pipeline: Pipeline):
        self._stream, self._recorded, self._measured = stream, recorded, measured
        self._outputs = recorded.outputs
        self._pipeline, self._coming = pipeline, pipeline.frames(stream, self._outputs)
        self._own = OwnTime(self._outputs)
        self._interrupted = False

    def run(self, first: tuple[Frame, int], limits: Limits) -> Outcome:
        """Frames, then the summary; see `run`."""
        failure: RunError | None = None
        with ending():  # a signal is taken notice of at the first frame
            self._measured.begin()
        finished = False
        try:
            with at_stop(lambda: self._recorded.outputs.end(failed=False)):
                failure = self._frames_until_the_end(first, limits)
            finished = True
        finally:  # whatever comes: no meter's thread and no open file is left behind
            with ending():
                SERVICE_MANAGER.stops()
                self._coming.end()
                try:
                    self._outputs.drain()
                finally:
                    try:
                        self._measured.end()
                    finally:
                        failure = self._recorded.end(failure, failed=failure is not None or not finished)
        with ending():
            if failure:
                failure = self._recorded.with_what_is_left(failure)
            return Outcome(self._summary(failure), failure)

    def _frames_until_the_end(self, first: tuple[Frame, int], limits: Limits) -> RunError | None:
        """Processes frames; returns the failure that ended the stream, if one did."""
        said_ns = time.monotonic_ns()
        until_ns: int | None = None
        took: Took | None = Took(*first)
        try:
            self._outputs.wait_for_place()
            while took:
                result = self._process(took)
                SERVICE_MANAGER.did_a_frame()
                start_ns, end_ns = result.facts.start_ns, result.facts.end_ns
                if until_ns is None and limits.seconds:
                    until_ns = start_ns + round(limits.seconds * 1e9)
                if self._recorded.frames == limits.frames or (until_ns and end_ns >= until_ns):
                    return None
                if end_ns - said_ns > PROGRESS_S * 1e9:
                    said_ns = end_ns
                    line = f"frame {self._recorded.frames}  {result.status}  dropped {self._recorded.dropped}"
                    logger.info(line)
                    SERVICE_MANAGER.says(line)
                took = self._coming.take(until_ns)
                if asked():  # a library may have swallowed Ctrl-C
                    raise KeyboardInterrupt
        except KeyboardInterrupt:  # how a run without an end is ended
            self._interrupted = True
        except (RunError, InputError, OSError) as error:
            return failure_of(error)
        return None

    def _process(self, took: Took) -> Result:
        """One frame from fit to record."""
        result = self._stream.process(took.frame, took.ahead)
        self._recorded.learn(self._stream, self._measured.meter)
        loop_ms = self._own.before(took, result.facts)
        self._own.hand_over(
            result, self._recorded.row(result, took.dropped, took.wait_ms, *self._measured.now(), loop_ms)
        )
        return result

    def cut_short(self) -> CutShort:
        """What a run is whose end did not come to its own."""
        return self._recorded.with_what_is_left(CutShort("stopped before its files were finished"))

    def _summary(self, failure: RunError | None) -> RunSummary:
        recorded = self._recorded
        ended = "interrupted" if self._interrupted else "finished"
        whole = self._measured.whole(self._stream, recorded.outputs.ledger, ended, failure)
        return RunSummary(
            **vars(whole), outputs=recorded.outputs.paths(), camera=recorded.camera(), pipeline=self._pipeline.name
        )
