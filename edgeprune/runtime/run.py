"""The camera loop: one frame after the other through the graphs, on record; a failure keeps what was recorded.

wait | fit -> trunk -> choose -> tail | overlay -> encode | record: `latency_ms` is from fit to tail, the frame in hand
to its labels in hand.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from edgeprune.base.ending import asked, at_stop, ending, held
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.machine import describe_machine, temperatures_c
from edgeprune.bundle import Bundle
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras.capture import Capture
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.choose import Chooser
from edgeprune.runtime.engines import Session
from edgeprune.runtime.figures import energy_per_frame, overhead
from edgeprune.runtime.meters import Energy, Meter
from edgeprune.runtime.sinks import Sinks, milliseconds
from edgeprune.runtime.sinks.record import Row
from edgeprune.runtime.summary import summarise_run

logger = logging.getLogger(__name__)

STALL_S = 10.0  # a camera that gives no frame for as long has stalled
PROGRESS_S = 5.0

Failure = TypeVar("Failure", bound=RunError)


class CutShort(RunError):
    """The end of a run was itself ended, by a second Ctrl-C."""


class Outcome(NamedTuple):
    """What a run gives: its summary, and the failure that ended it (exit code 3), if one did."""

    summary: dict[str, Any]
    failure: RunError | None


def run(
    bundle: Bundle,
    session: Session,
    capture: Capture,
    fit: Preprocess,
    chooser: Chooser,
    meter: Meter,
    *,
    frames: int | None = None,
    seconds: float | None = None,
    out: Path | None = None,
    record: Path | None = None,
    idle_w: Mapping[str, float] | None = None,
) -> Outcome:
    """Runs until the stream ends, `frames` or `seconds` are reached, Ctrl-C or SIGTERM, or a failure. Closes `capture`.

    Args:
        bundle: what `session` was opened from.
        session: opened, and so warmed up: no row is of a cold graph.
        capture: `NewestFrame` or `EveryFrame`.
        fit: to the bundle's input size.
        chooser: from `make_chooser`.
        meter: runs from before the first row to after the last; waiting, decoding, overlay and encoding included.
        frames: at most so many.
        seconds: at most so long, counted from the first frame.
        out: where the overlay video goes (.mp4).
        record: where the rows go (.csv or .jsonl); columns in `record.COLUMNS`.
        idle_w: what the machine takes when idle (`measure_idle`), to subtract.

    Returns:
        The summary, of what was processed even where a failure ended the run. Its files then stay under the partial
        names that `record` and `out` of the summary give; they are whole up to the last frame.

    Raises:
        InputError: before the first frame: nothing can be read from the source, or `out` or `record` can't be written.
        RunError: the camera gave no first frame.
        CutShort: a second Ctrl-C came before the files were finished.
    """
    try:
        sinks = Sinks(bundle, fit, capture, out, record)
        try:
            first = capture.get(STALL_S)
            if first is None:
                raise InputError(f"{capture.source.uri} has no frames; name another camera, file or folder")
            sinks.open(first[0])
        except BaseException:
            sinks.discard()
            raise
        loop = _Loop(bundle, session, capture, fit, chooser, sinks)
        try:
            return loop.run(first, meter, frames, seconds, idle_w)
        except KeyboardInterrupt as error:  # Ctrl-C again, in the end that the first one made
            raise loop.cut_short() from error
    finally:
        with ending():
            capture.close()


class _Loop:
    """One run: the state that passes from frame to frame."""

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        capture: Capture,
        fit: Preprocess,
        chooser: Chooser,
        sinks: Sinks,
    ):
        self._bundle, self._session, self._capture = bundle, session, capture
        self._fit, self._chooser, self._sinks = fit, chooser, sinks
        self._tokens_of = {bucket.name: bucket.token_layers for bucket in bundle.manifest.buckets}
        self._all_tokens = bundle.manifest.depth * bundle.manifest.tokens
        self._frames = self._dropped = 0
        self._interrupted = False

    def run(
        self,
        first: tuple[Frame, int],
        meter: Meter,
        frames: int | None,
        seconds: float | None,
        idle_w: Mapping[str, float] | None,
    ) -> Outcome:
        """Frames, then the summary; see `run`."""
        failure: RunError | None = None
        with ending():  # a signal is taken notice of at the first frame
            before_c = temperatures_c()
            meter.start()
        finished = False
        try:
            with at_stop(lambda: self._sinks.end(failed=False)):
                failure = self._frames_until_the_end(first, frames, seconds)
            finished = True
        finally:  # whatever comes: no meter's thread and no open file is left behind
            with ending():
                try:
                    energy = meter.stop()
                finally:
                    failure = self._end_sinks(failure, failed=failure is not None or not finished)
        with ending():
            if failure:
                failure = self._with_what_is_left(failure)
            return Outcome(self._summary(energy, idle_w, before_c, failure), failure)

    def _end_sinks(self, failure: RunError | None, failed: bool) -> RunError | None:
        """The failure that ended the stream, and that of the sinks at its end."""
        try:
            self._sinks.end(failed)
        except RunError as error:
            return type(failure)(f"{failure}; {error}") if failure else error
        return failure

    def _frames_until_the_end(
        self, first: tuple[Frame, int], frames: int | None, seconds: float | None
    ) -> RunError | None:
        """Processes frames; returns the failure that ended the stream, if one did."""
        said_ns = time.monotonic_ns()
        began_ns: int | None = None
        limit_ns = seconds * 1e9 if seconds else float("inf")
        stall_s = None if self._capture.source.paced else STALL_S
        got: tuple[Frame, int] | None = first
        wait_ms = 0.0
        try:
            while got:
                row = self._process(*got, wait_ms)
                began_ns = row["start_ns"] if began_ns is None else began_ns
                if self._frames == frames or row["end_ns"] - began_ns >= limit_ns:
                    return None
                if row["end_ns"] - said_ns > PROGRESS_S * 1e9:
                    said_ns = row["end_ns"]
                    logger.info(f"frame {self._frames}  {self._status(row)}  dropped {self._dropped}")
                asked_ns = time.monotonic_ns()
                got = self._capture.get(stall_s)
                wait_ms = milliseconds(asked_ns, time.monotonic_ns())
                if asked():  # a library may have swallowed Ctrl-C
                    raise KeyboardInterrupt
        except KeyboardInterrupt:  # how a run without an end is ended
            self._interrupted = True
        except RunError as error:
            return error
        except InputError as error:  # of a source that has given frames already
            return RunError(str(error))
        except OSError as error:  # as above: a file that was removed, a disk that was taken out
            where = f"{error.filename}: " if error.filename else ""
            return RunError(f"{where}{error.strerror or error}")
        return None

    def _process(self, frame: Frame, dropped: int, wait_ms: float) -> dict[str, Any]:
        """One frame from fit to record; returns its row."""
        start_ns = time.monotonic_ns()
        fitted_HW3 = self._fit.fit(frame.image_HW3)
        fitted_ns = time.monotonic_ns()
        count = self._session.start(fitted_HW3)
        trunk_ns = time.monotonic_ns()
        bucket = self._chooser(count)
        chosen_ns = time.monotonic_ns()
        label_HW = self._session.finish(bucket)
        end_ns = time.monotonic_ns()
        row: dict[str, Any] = {
            "index": frame.index,
            "capture_ns": frame.capture_ns,
            "presentation_s": None if frame.presentation_s is None else round(frame.presentation_s, 6),
            "start_ns": start_ns,
            "end_ns": end_ns,
            "wait_ms": wait_ms,
            "fit_ms": milliseconds(start_ns, fitted_ns),
            "trunk_ms": milliseconds(fitted_ns, trunk_ns),
            "choose_ms": milliseconds(trunk_ns, chosen_ns),
            "tail_ms": milliseconds(chosen_ns, end_ns),
            "overlay_ms": None,
            "encode_ms": None,
            "latency_ms": milliseconds(start_ns, end_ns),
            "bucket": bucket,
            "tokens": self._tokens_of[bucket],
            "dropped": dropped,
        }
        self._frames += 1
        self._dropped += dropped
        with held():  # a frame is in the video, in the record and in the summary, or in none
            try:
                self._sinks.show(frame, label_HW, self._status(row) if self._sinks.video else "", row)
            finally:
                self._sinks.keep(row)
        return row

    def cut_short(self) -> CutShort:
        """What a run is whose end did not come to its own."""
        return self._with_what_is_left(CutShort("stopped before its files were finished"))

    def _with_what_is_left(self, failure: Failure) -> Failure:
        """The failure, and where what was recorded until then is."""
        if not len(self._sinks.ledger):
            return type(failure)(f"{failure}; no frame was processed before")
        # a video whose disk was full has fewer; its own words say where it is
        left = [path for path in self._sinks.paths().values() if path and path not in str(failure)]
        kept = f" are in {' and '.join(left)}" if left else " were processed"
        return type(failure)(f"{failure}; {len(self._sinks.ledger)} frames until then{kept}")

    def _status(self, row: Row) -> str:
        """`21.3 fps  18.1 ms  bucket 384 (52% of the tokens)`; frames per second since the first."""
        ledger = self._sinks.ledger
        seconds = (row["end_ns"] - (ledger[0] if len(ledger) else row)["start_ns"]) / 1e9
        share = 100 * row["tokens"] / self._all_tokens
        return (
            f"{self._frames / seconds:.1f} fps  {row['latency_ms']:.1f} ms  bucket {row['bucket']} "
            f"({share:.0f}% of the tokens)"
        )

    def _summary(
        self, energy: Energy, idle_w: Mapping[str, float] | None, before_c: dict[str, float], failure: RunError | None
    ) -> dict[str, Any]:
        source, manifest = self._capture.source, self._bundle.manifest
        rows = self._sinks.ledger
        summary = summarise_run(rows)
        engine = self._session.describe()
        return {
            **summary,
            "energy": energy_per_frame(energy, len(rows), idle_w),
            **self._sinks.paths(),
            "token_share": summary["tokens_mean"] / self._all_tokens if len(rows) else None,
            "overhead": overhead(rows),
            "camera": {"uri": source.uri, "fps": source.fps, "live": source.live, "damaged": source.damaged},
            "bundle": str(self._bundle.folder),
            "model": manifest.name,
            "engine": engine,
            "warm_up": engine["warm_up"],
            "machine": describe_machine(),
            "temperature_c": {"before": before_c, "after": temperatures_c()},
            "ended": "failure" if failure else "interrupted" if self._interrupted else "finished",
            "failure": str(failure) if failure else None,
        }
