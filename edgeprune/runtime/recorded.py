"""What becomes of one camera's frames in a run, whether it has that one or several: counted, and in all of its outputs."""

import logging
from typing import TypeVar

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle
from edgeprune.runtime.about import About
from edgeprune.runtime.cameras.capture import Capture
from edgeprune.runtime.meters import Meter
from edgeprune.runtime.outputs import Outputs
from edgeprune.runtime.row import Row
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.summary import CameraFigures
from edgeprune.runtime.tasks import Result

logger = logging.getLogger(__name__)

Failure = TypeVar("Failure", bound=RunError)

NEARLY_ALL, MANY = 0.9, 30  # of the frames that were dropped: that share and that many are worth a line
TOO_FAST = 2.0  # times its own rate: nobody paced the stream


class Recorded:
    """The record of a camera.

    Args:
        capture: whose frames they are.
        outputs: begun, or to be begun before the first of them.

    Attributes:
        frames, dropped: until now.
    """

    def __init__(self, capture: Capture, outputs: Outputs):
        self.capture, self.outputs = capture, outputs
        self.frames = self.dropped = 0
        self._learned: Bundle | None = None
        self._first = self._last = (0, 0)  # index and capture_ns of the first frame and of the last

    def learn(self, stream: Stream, meter: Meter) -> None:
        """Tells the outputs what runs, where that is another bundle than at the frame before."""
        if self._learned is not stream.bundle:
            self._learned = stream.bundle
            self.outputs.learn(About.of(stream, meter, self.capture))

    def row(
        self,
        result: Result,
        dropped: int,
        wait_ms: float,
        watts: float | None = None,
        celsius: float | None = None,
        loop_ms: float | None = None,
    ) -> Row:
        """Counts a frame, which then goes to the outputs.

        Args:
            dropped: frames lost since the one before.
            wait_ms: that this one was waited for.
            watts, celsius: of the machine, this moment.
            loop_ms: what the loop took for itself.

        Returns:
            its row, before what the outputs take.
        """
        frame, facts = result.frame, result.facts
        self._last = frame.index, frame.capture_ns
        self._first = self._first if self.frames else self._last
        self.frames += 1
        self.dropped += dropped
        return Row(
            index=frame.index,
            name=frame.name,
            capture_ns=frame.capture_ns,
            presentation_s=None if frame.presentation_s is None else round(frame.presentation_s, 6),
            start_ns=facts.start_ns,
            end_ns=facts.end_ns,
            wait_ms=wait_ms,
            fit_ms=facts.fit_ms,
            trunk_ms=facts.trunk_ms,
            choose_ms=facts.choose_ms,
            tail_ms=facts.tail_ms,
            overlay_ms=None,
            encode_ms=None,
            latency_ms=result.latency_ms,
            asked=facts.asked,
            bucket=facts.bucket,
            tokens=facts.tokens,
            confidence=result.mean_confidence,
            dropped=dropped,
            watts=None if watts is None else round(watts, 3),
            celsius=celsius,
            loop_ms=loop_ms,
            things=result.counts(),
            live=self.capture.source.live,
            **(facts.remembered._asdict() if facts.remembered else {}),
        )

    def end(self, failure: RunError | None, failed: bool) -> RunError | None:
        """Ends the outputs, and says why nearly all frames were dropped where nobody paced them.

        Args:
            failed: the outputs stay under their partial names.

        Returns:
            the failure that ended the stream, with that of the outputs at their end.
        """
        if why := self._why_dropped():
            logger.warning(why)
        try:
            self.outputs.end(failed)
        except (RunError, InputError, OSError) as error:
            return type(failure)(f"{failure}; {error}") if failure else failure_of(error)
        return failure

    def _why_dropped(self) -> str | None:
        """A line where nearly all frames were dropped of a stream that nobody paced; None where this machine is but slow."""
        source, offered = self.capture.source, self.frames + self.dropped
        if source.unpaced is None or self.dropped < max(MANY, NEARLY_ALL * offered):
            return None
        frames, spent_ns = (last - first for last, first in zip(self._last, self._first, strict=True))
        if source.fps and spent_ns and frames / spent_ns * 1e9 < TOO_FAST * source.fps:
            return None
        return f"{self.dropped} of {offered} frames were dropped, as they came all at once: {source.unpaced}"

    def with_what_is_left(self, failure: Failure) -> Failure:
        """The failure, and where what was recorded until then is."""
        frames = self.outputs.ledger.frames
        if not frames:
            return type(failure)(f"{failure}; no frame was processed before")
        # a video whose disk was full has fewer; its own words say where it is
        left = [path for path in self.outputs.paths().values() if path and path not in str(failure)]
        kept = f" are in {' and '.join(left)}" if left else " were processed"
        return type(failure)(f"{failure}; {frames} frames until then{kept}")

    def camera(self) -> CameraFigures:
        """The camera's own figures."""
        capture, source = self.capture, self.capture.source
        return CameraFigures(source.uri, source.fps, source.live, capture.damaged, capture.reconnects, capture.decoder)


def failure_of(error: RunError | InputError | OSError) -> RunError:
    """What ends the stream of a source that has given frames already: a file that was removed, a disk that was taken out."""
    if isinstance(error, RunError):
        return error
    if isinstance(error, InputError):
        return RunError(str(error))
    where = f"{error.filename}: " if error.filename else ""
    return RunError(f"{where}{error.strerror or error}")
