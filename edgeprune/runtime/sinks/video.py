"""The overlay video of a run: a file, or a folder of files that has no end."""

import time
from dataclasses import replace
from pathlib import Path

from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras.pyav import load_av
from edgeprune.runtime.cameras.source import Frame, FrameSource
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.row import Row, milliseconds
from edgeprune.runtime.sinks.encode import VideoWriter, check_video_name
from edgeprune.runtime.sinks.film import FilmTimes
from edgeprune.runtime.sinks.segments import Kind, Segments, folder_output
from edgeprune.runtime.sinks.series import Series
from edgeprune.runtime.sinks.sink import Output, Sink
from edgeprune.runtime.sinks.split import names_a_folder
from edgeprune.runtime.tasks import Result

FILMS = Kind("video", (".mp4",), "overlay.mp4")
SEGMENT_S = 60.0  # of film in a folder's files


def video_output(name: str) -> Output:
    """The file of a video, or the folder: `overlay.mp4`, `video/`. Raises InputError as `check_video_name`, `folder_output`."""
    if names_a_folder(name):
        return folder_output(name, FILMS)
    check_video_name(Path(name))
    return Output(Path(name))


def open_video(name: str, source: FrameSource) -> Sink:
    """The sink for that file or folder. Raises InputError as `video_output`, or where it can't be written to."""
    output = video_output(name)
    return VideoFolder(output.path, source) if output.endless else OverlayVideo(output.path, source)


class OverlayVideo(Sink):
    """Each frame with what was found in it, in a film as long as its source. It has the size of the first frame."""

    def __init__(self, path: Path, source: FrameSource):
        self._path, self._times = path, FilmTimes(source)
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


class VideoFolder(Series[VideoWriter]):
    """The same in the files of a folder, without an end: a new one after SEGMENT_S of film, with a frame of another size, or
    where the file has its share of the folder's disk; the oldest are removed.

    Of a process that is killed a second of film is lost at most: half of one in the encoder's fragment, and what a power cut
    takes besides is SYNC_S.

    Raises:
        InputError: the folder can't be written to, or PyAV is missing.
    """

    def __init__(self, folder: Path, source: FrameSource):
        load_av()
        super().__init__(Segments(folder, FILMS, ".mp4", "a video"))
        self._times = FilmTimes(source)
        self.note = self._times.note
        self._shape: tuple[int, ...] = ()
        self._began_s = 0.0  # of the film, the file that is written

    def add(self, result: Result, row: Row) -> Row:
        start_ns = time.monotonic_ns()
        picture_HW3 = result.overlay()
        drawn_ns = time.monotonic_ns()
        self._make_room()
        time_s = self._times(result.frame)
        film_s = self._added / self._times.fps if time_s is None else time_s
        writer = self._part
        if writer is None or not self._has_room(writer, picture_HW3, film_s):
            writer = self._begin(picture_HW3, film_s)
        writer.write(picture_HW3, time_s)
        self._wrote()
        drawn = replace(row, overlay_ms=milliseconds(start_ns, drawn_ns))
        return drawn.after_encoding(milliseconds(drawn_ns, time.monotonic_ns()))

    def _has_room(self, writer: VideoWriter, picture_HW3: UInt8, film_s: float) -> bool:
        """Whether the file that is written takes this frame."""
        return (
            picture_HW3.shape == self._shape
            and 0 <= film_s - self._began_s < SEGMENT_S
            and writer.size < self._segments.segment_bytes
        )

    def _begin(self, picture_HW3: UInt8, film_s: float) -> VideoWriter:
        height, width = picture_HW3.shape[:2]
        writer = self._next(lambda path: VideoWriter(path, self._times.fps, height, width))
        self._segments.follow(writer.fileno())
        self._shape, self._began_s = picture_HW3.shape, film_s
        return writer
