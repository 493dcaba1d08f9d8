"""The loop of several cameras: their frames in turn through the same graphs, each on its own record; who fails ends alone."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from edgeprune.base.ending import at_stop, ending, held
from edgeprune.base.errors import InputError, RunError, one_line
from edgeprune.base.service_manager import SERVICE_MANAGER
from edgeprune.runtime.budget.kept import budget_figures
from edgeprune.runtime.budget.wanted import Budget
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.measured import Measured
from edgeprune.runtime.meters import Meter
from edgeprune.runtime.outputs import Outputs, taken_ms
from edgeprune.runtime.recorded import Recorded, failure_of
from edgeprune.runtime.row import DIGITS, LEDGER_ROWS, Ledger, Row, milliseconds
from edgeprune.runtime.run import PROGRESS_S, CutShort, Limits
from edgeprune.runtime.running import Counted
from edgeprune.runtime.several.opening import Opened
from edgeprune.runtime.several.summary import CameraSummary, SeveralOutcome, SeveralSummary
from edgeprune.runtime.several.turns import Turn, Turns
from edgeprune.runtime.sinks import Sink
from edgeprune.runtime.sinks.segments import KEEP_BYTES
from edgeprune.runtime.sinks.view import open_view_of_several
from edgeprune.runtime.summary import summarise_run
from edgeprune.runtime.tasks import FrameFacts, Result

logger = logging.getLogger(__name__)

FAILURES = (RunError, InputError, OSError)  # of a camera or its outputs, and others go on; of the graphs, and all end


@dataclass
class _Camera:
    """One of them: its record, and the loop's own account of it.

    Attributes:
        before: what its frames until now were.
        done_ns: when the loop was done with the last of them; 0 before the first.
        ended: how; None while it goes on.
        failure: why it was lost.
    """

    recorded: Recorded
    before: Counted = field(default_factory=lambda: Counted(0, 0))
    done_ns: int = 0
    ended: str | None = None
    failure: RunError | None = None


def run_several(
    opened: Opened,
    meter: Meter,
    limits: Limits | None = None,
    outputs: Mapping[str, Mapping[str, str]] | None = None,
    idle_w: Mapping[str, float] | None = None,
    keep_bytes: int = KEEP_BYTES,
) -> SeveralOutcome:
    """Runs until every camera has ended, a limit is reached, or Ctrl-C or SIGTERM. Closes the cameras, not the graphs.

    Args:
        opened: by `open_several`.
        limits: of the run: frames are those of all cameras.
        outputs: of each camera by its name, what is written, by the keys of SINKS (`outputs_of_cameras`).
        meter, idle_w, keep_bytes: see `run`.

    Raises:
        InputError: an output can't be written.
        CutShort: a second Ctrl-C came before the files were finished.
    """
    names = outputs or {}
    with ExitStack() as stack:
        stack.callback(opened.close_cameras)
        view = next((each["view"] for each in names.values() if "view" in each), None)
        sources = {name: capture.source for name, capture in opened.captures.items()}
        shown: dict[str, Sink] = {}
        if view is not None:
            page, shown = open_view_of_several(view, sources)
            stack.callback(page.close)
            logger.info(page.note)
        cameras: dict[str, _Camera] = {}
        try:
            most_rows = LEDGER_ROWS // len(sources)
            for name, capture in opened.captures.items():
                own = {key: output for key, output in names.get(name, {}).items() if key != "view"}
                shared = {"view": shown[name]} if shown else None
                cameras[name] = _Camera(Recorded(capture, Outputs(own, capture.source, keep_bytes, shared, most_rows)))
            turns = Turns(opened.captures)
        except BaseException:
            for camera in cameras.values():
                camera.recorded.outputs.discard()
            raise
        try:
            return _Loop(opened, turns, cameras, Measured(meter, idle_w)).run(limits or Limits())
        except KeyboardInterrupt as error:  # Ctrl-C again, in the end that the first one made
            raise CutShort("stopped before the files of all cameras were finished") from error
        finally:
            with ending():
                turns.close()


class _Loop:
    """One run: the state that passes from turn to turn."""

    def __init__(self, opened: Opened, turns: Turns, cameras: Mapping[str, _Camera], measured: Measured):
        self._stream, self._turns, self._cameras, self._measured = opened.stream, turns, cameras, measured
        self._rows = Ledger()  # of all cameras
        self._waited_ns = 0  # since the last frame
        self._last_ns, self._taken_ms = 0, 0.0  # the end of the last frame's tail, and what its outputs took
        self._interrupted = False
        self._failed: RunError | None = None  # what all cameras share

    def run(self, limits: Limits) -> SeveralOutcome:
        """Frames, then the summary; see `run_several`."""
        with ending():  # a signal is taken notice of at the first frame
            self._measured.begin()
        finished = False
        try:
            with ExitStack() as stack:
                for camera in self._cameras.values():
                    stack.enter_context(at_stop(partial(camera.recorded.outputs.end, failed=False)))
                try:
                    self._turns_until_the_end(limits)
                except KeyboardInterrupt:  # how a run without an end is ended
                    self._interrupted = True
                except FAILURES as error:
                    self._failed = failure_of(error)
            finished = True
        finally:  # whatever comes: no meter's thread and no open file is left behind
            with ending():
                SERVICE_MANAGER.stops()
                try:
                    self._measured.end()
                finally:
                    self._end_all(failed=not finished)
        with ending():
            failure = self._failure()
            return SeveralOutcome(self._summary(failure), failure)

    def _turns_until_the_end(self, limits: Limits) -> None:
        said_ns = time.monotonic_ns()
        until_ns: int | None = None
        self._learn()
        while turn := self._take(until_ns):
            camera = self._cameras[turn.camera]
            if turn.frame is None:
                self._end_of_stream(turn, camera)
                continue
            result = self._process(turn.camera, camera, turn.frame, turn.dropped)
            if result is None:
                continue
            SERVICE_MANAGER.did_a_frame()
            end_ns = result.facts.end_ns
            if until_ns is None and limits.seconds:
                until_ns = result.facts.start_ns + round(limits.seconds * 1e9)
            if self._rows.frames == limits.frames or (until_ns and end_ns >= until_ns):
                return
            if end_ns - said_ns > PROGRESS_S * 1e9:
                said_ns = end_ns
                self._say(result)

    def _learn(self) -> None:
        """Tells the outputs of every camera what runs, whether it has a frame or not: a page shows that of each."""
        for camera in self._cameras.values():
            if not camera.ended:
                camera.recorded.learn(self._stream, self._measured.meter)

    def _take(self, until_ns: int | None) -> Turn | None:
        asked_ns = time.monotonic_ns()
        turn = self._turns.take(until_ns)
        self._waited_ns += time.monotonic_ns() - asked_ns
        return turn

    def _process(self, name: str, camera: _Camera, frame: Frame, dropped: int) -> Result | None:
        """One frame from fit to record; None where its camera ends with it."""
        begin_ns, recorded = time.monotonic_ns(), camera.recorded
        result = self._stream.process(replace(frame, camera=name), before=camera.before)
        self._learn()
        wait_ms = milliseconds(camera.done_ns, begin_ns) if camera.done_ns else 0.0
        try:
            if not recorded.frames:
                recorded.outputs.begin(frame)
            row = recorded.row(result, dropped, wait_ms, *self._measured.now(), self._own_ms(result.facts))
            row = recorded.outputs.tell(result, replace(row, cameras=len(self._cameras)))
            with held():  # a frame is in its camera's record and in the totals, or in neither
                self._count(camera, recorded.outputs.write(result, row))
        except FAILURES as error:
            with held():  # a signal would make it one that was interrupted
                self._turns.leave(name)
                self._end(name, camera, failure_of(error), "failure")
            return None
        self._stream.notice_work()
        return result

    def _count(self, camera: _Camera, row: Row) -> None:
        """A frame that is in its camera's record."""
        waited_ms = milliseconds(0, self._waited_ns) if self._rows.frames else 0.0
        self._rows.add(replace(row, wait_ms=waited_ms))
        self._waited_ns = 0
        self._last_ns, self._taken_ms = row.end_ns, taken_ms(row)
        camera.before = Counted(camera.recorded.frames, camera.before.began_ns or row.start_ns)
        camera.done_ns = time.monotonic_ns()

    def _own_ms(self, facts: FrameFacts) -> float:
        """What the loop took for itself since the last frame's labels: neither a stage nor waiting, nor outputs."""
        if not self._last_ns:
            return 0.0
        stages_ms = facts.fit_ms + facts.trunk_ms + facts.choose_ms + facts.tail_ms + self._taken_ms
        spent_ms = milliseconds(self._last_ns, facts.end_ns) - milliseconds(0, self._waited_ns)
        return round(max(0.0, spent_ms - stages_ms), DIGITS)

    def _end_of_stream(self, turn: Turn, camera: _Camera) -> None:
        """A camera that has no more frames."""
        error = turn.error
        if error is None and not camera.recorded.frames:
            error = RunError(f"{camera.recorded.capture.source.uri} has no frames")
        with held():  # a signal would make it one that was interrupted
            if error is None:
                self._end(turn.camera, camera, None, "finished")
                logger.info(f"camera {turn.camera} has ended after {camera.recorded.frames} frames")
            elif isinstance(error, FAILURES):
                self._end(turn.camera, camera, failure_of(error), "failure")
            else:  # a signal that came in its thread, or a flaw of ours
                raise error

    def _end(self, name: str, camera: _Camera, failure: RunError | None, how: str, failed: bool = False) -> None:
        """Ends a camera's outputs; what was recorded of one that was lost stays under partial names."""
        if camera.ended:
            return
        recorded = camera.recorded
        failure = recorded.end(failure, failed or failure is not None)
        cut_off = how == "finished" and not recorded.frames  # by the run's end, before its first frame
        camera.ended = "failure" if failure else "no frame" if cut_off else how
        if failure:
            camera.failure = recorded.with_what_is_left(failure)
        if failure and not self._failed:  # what ends the run says so itself
            left = [other for other, each in self._cameras.items() if not each.ended]
            go_on = f"; {', '.join(left)} {'goes' if len(left) == 1 else 'go'} on" if left and how == "failure" else ""
            logger.warning(one_line(f"camera {name} is lost: {camera.failure}{go_on}"))

    @property
    def _how(self) -> str:
        """How what goes on until now ends."""
        return "interrupted" if self._interrupted else "finished"

    def _end_all(self, failed: bool) -> None:
        """Ends those that go on, all at once: each waits for the disk, and a run is ended within a second."""
        with ThreadPoolExecutor(len(self._cameras)) as pool:
            for ending_one in [
                pool.submit(self._end, name, camera, self._failed, self._how, failed)
                for name, camera in self._cameras.items()
            ]:
                ending_one.result()

    def _say(self, result: Result) -> None:
        """A line of progress."""
        frames = ", ".join(f"{name} {camera.recorded.frames}" for name, camera in self._cameras.items())
        line = f"frame {self._rows.frames} ({frames})  {result.camera}: {result.status}  dropped {self._rows.dropped}"
        logger.info(line)
        SERVICE_MANAGER.says(line)

    def _failure(self) -> RunError | None:
        """That of the run: what ended all cameras, or those that were lost."""
        lost = {name: camera.failure for name, camera in self._cameras.items() if camera.failure}
        reasons = "; ".join(f"{name}: {failure}" for name, failure in lost.items())
        if self._failed:
            return RunError(f"what all cameras share failed: {reasons}")
        if not lost:
            return None
        return RunError(
            f"{len(lost)} of {len(self._cameras)} cameras {'was' if len(lost) == 1 else 'were'} lost: {reasons}"
        )

    def _summary(self, failure: RunError | None) -> SeveralSummary:
        cameras = {name: self._summary_of(camera) for name, camera in self._cameras.items()}
        whole = self._measured.whole(self._stream, self._rows, self._how, failure)
        # each camera numbers its own frames
        figures = replace(whole.figures, offered=sum(each.figures.offered for each in cameras.values()))
        return SeveralSummary(**vars(replace(whole, figures=figures)), cameras=cameras)

    def _summary_of(self, camera: _Camera) -> CameraSummary:
        rows, recorded = camera.recorded.outputs.ledger, camera.recorded
        limit_ms = self._stream.budget.latency_ms if self._stream.budget else None
        return CameraSummary(
            figures=summarise_run(rows),
            budget=None if limit_ms is None else budget_figures(Budget(latency_ms=limit_ms), rows),
            outputs=recorded.outputs.paths(),
            camera=recorded.camera(),
            ended=camera.ended or "finished",
            failure=str(camera.failure) if camera.failure else None,
        )
