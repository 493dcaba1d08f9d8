"""The overlay video of a run."""

import time
from dataclasses import replace
from pathlib import Path

from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras.source import Frame, FrameSource
from edgeprune.runtime.row import Row, milliseconds
from edgeprune.runtime.sinks.encode import VideoWriter, check_video_name
from edgeprune.runtime.sinks.film import FilmTimes
from edgeprune.runtime.sinks.sink import Output, Sink
from edgeprune.runtime.tasks import Result


def video_output(name: str) -> Output:
    """The file of a video. Raises InputError as `check_video_name`."""
    check_video_name(Path(name))
    return Output(Path(name))


class OverlayVideo(Sink):
    """Each frame with what was found in it, in a film as long as its source. It has the size of the first frame."""

    def __init__(self, name: str, source: FrameSource):
        self._path, self._times = Path(name), FilmTimes(source)
        self.note = self._times.note
        self._writer: VideoWriter | None = None

    @property
    def kept(self) -> Path | None:
        return self._writer.kept if self._writer else None

    def begin(self, first: Frame) -> None:
        height, width = first.image_HW3.shape[:2]
        self._writer = VideoWriter(self._path, self._times.fps, height, width)
        self._fit = Preprocess(height, width)

    def add(self, result: Result, row: Row) -> Row:
        assert self._writer is not None
        start_ns = time.monotonic_ns()
        # images of a folder may differ in size, a video's frames can't
        picture_HW3 = self._fit.fit(result.overlay())
        drawn_ns = time.monotonic_ns()
        self._writer.write(picture_HW3, self._times(result.frame))
        drawn = replace(row, overlay_ms=milliseconds(start_ns, drawn_ns))
        return drawn.after_encoding(milliseconds(drawn_ns, time.monotonic_ns()))

    def close(self) -> None:
        if self._writer:
            self._writer.close()

    def abandon(self) -> None:
        if self._writer:
            self._writer.abandon()
