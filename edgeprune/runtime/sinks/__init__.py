"""Where the frames and rows of a run go."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import RunError
from edgeprune.bundle import Bundle
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras.capture import Capture
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.sinks.encode import VideoWriter
from edgeprune.runtime.sinks.film import FilmTimes
from edgeprune.runtime.sinks.overlay import Overlay
from edgeprune.runtime.sinks.record import DIGITS, Ledger, Record, Row

logger = logging.getLogger(__name__)


class Sinks:
    """Where a run's frames and rows go: the overlay video, the record, the ledger."""

    def __init__(self, bundle: Bundle, fit: Preprocess, capture: Capture, out: Path | None, record: Path | None):
        self.ledger = Ledger()
        self.record = Record(record) if record else None
        self.video: VideoWriter | None = None
        self._out, self._fit, self._times = out, fit, FilmTimes(capture.source)
        self._one_at_a_time = threading.Lock()  # a hard stop ends the sinks from another thread
        self._overlay = Overlay(bundle.manifest.names, bundle.manifest.palette)

    def open(self, first: Frame) -> None:
        """Starts the video, at the size of the first frame."""
        if self._out:
            if self._times.note:
                logger.info(self._times.note)
            self.video = VideoWriter(self._out, self._times.fps, *first.image_HW3.shape[:2])
            self._video_fit = Preprocess(*first.image_HW3.shape[:2])

    def show(self, frame: Frame, label_HW: np.ndarray, status: str, row: dict[str, Any]) -> None:
        """Draws and encodes a frame; notes in its row how long each took."""
        if self.video is None:
            return
        start_ns = time.monotonic_ns()
        labels = self._fit.back(label_HW, *frame.image_HW3.shape[:2])
        # images of a folder may differ in size, a video's frames can't
        picture = self._video_fit.fit(self._overlay.draw(frame.image_HW3, labels, status))
        drawn_ns = time.monotonic_ns()
        row["overlay_ms"] = milliseconds(start_ns, drawn_ns)
        with self._one_at_a_time:
            self.video.write(picture, self._times(frame))
        row["encode_ms"] = milliseconds(drawn_ns, time.monotonic_ns())

    def keep(self, row: Row) -> None:
        """Records a row; one that the disk has no room for isn't in the ledger either, so that both tell the same."""
        if self.record:
            with self._one_at_a_time:
                self.record.add(row)
        self.ledger.add(row)

    def end(self, failed: bool) -> None:
        """Gives the files their final names, or leaves them under their partial ones; each whatever the other does.

        A second time it does nothing; it may come from another thread (a hard stop).

        Raises:
            RunError: one of them can't be ended as it should; where both can't, both reasons.
        """
        failures: list[str] = []
        with self._one_at_a_time:
            for sink in (self.record, self.video):
                try:
                    if sink:
                        sink.abandon() if failed or failures else sink.close()
                except RunError as error:
                    failures.append(str(error))
        if failures:
            raise RunError("; ".join(failures))

    def discard(self) -> None:
        """Removes what was begun: no frame was processed. The video begins last, there is none yet."""
        if self.record:
            self.record.abandon()

    def paths(self) -> dict[str, str | None]:
        """Where the files are once they are ended: `record` and `out`; None for one that isn't, or isn't any more."""
        sinks = {"record": self.record, "out": self.video}
        return {name: str(sink.kept) if sink and sink.kept else None for name, sink in sinks.items()}


def milliseconds(start_ns: int, end_ns: int) -> float:
    """The time between two readings of the monotonic clock, rounded as in a record."""
    return round((end_ns - start_ns) / 1e6, DIGITS)
