"""When a film of a source shows its frames."""

from edgeprune.runtime.cameras.source import Frame, FrameSource
from edgeprune.runtime.sinks.encode import SLOWEST_FPS

DEFAULT_FPS = 15.0  # where the source names no rate (images in a folder), or one that nobody watches (a frame an hour)


class FilmTimes:
    """A film is as long as its source, gaps and uneven rates included; but a time-lapse gets a rate to watch it at.

    Attributes:
        fps: nominal rate of the film.
        note: a line that says what rate was chosen; None where it is the source's own.
    """

    def __init__(self, source: FrameSource):
        self._live = source.live
        self._time_lapse = source.fps is not None and source.fps < SLOWEST_FPS
        self.fps = DEFAULT_FPS if self._time_lapse or not source.fps else source.fps
        self.note: str | None = None
        if source.fps and self._time_lapse:
            self.note = (
                f"{source.uri} has a frame in {1 / source.fps:.0f} s: the film shows {self.fps:g} of them a second"
            )

    def __call__(self, frame: Frame) -> float | None:
        """The time for `VideoWriter.write`: as the file shows it, as the camera took it, or None: next."""
        if self._time_lapse:
            return None
        if frame.presentation_s is not None:
            return frame.presentation_s
        return frame.capture_ns / 1e9 if self._live else None
