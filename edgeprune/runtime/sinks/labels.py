"""Label maps of a run, at each frame's own pixels: a folder of PNGs of class ids, and where the bundle has it each one's
confidence beside it (`x.png`, `x.pgm`: no label map has that name, and no data set takes it for one).

A PNG has a palette, too: a viewer shows colours, while Pillow, and so a data set, reads the ids. OpenCV reads the colours of
such a file, never the ids; `--labels FILE.npz` is for those who have OpenCV alone (`label_archive.py`).
"""

import io
import os
import time
from contextlib import suppress
from pathlib import Path

from PIL import Image

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.outputs import OutputRemoved, refuse_full_folder, refuse_remains
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.samples import UInt8
from edgeprune.runtime.cameras.source import FrameSource
from edgeprune.runtime.row import Row, milliseconds
from edgeprune.runtime.sinks.label_archive import ARCHIVE, LabelArchive, free_name, stem_of
from edgeprune.runtime.sinks.partial import PartialFolder
from edgeprune.runtime.sinks.segments import Kind, Segments, folder_output, on_disk
from edgeprune.runtime.sinks.series import Series
from edgeprune.runtime.sinks.sink import Output, Sink
from edgeprune.runtime.tasks import Result

UNFINISHED = ".unfinished"  # name of the PNG that is being written
SEGMENT_S = 86_400.0  # of the folders and archives that follow each other, at most
FOLDERS = Kind("labels", ("",), "labels.npz", inner=(".png", ".pgm", UNFINISHED))
ARCHIVES = Kind("labels", (ARCHIVE,), "labels.npz")
# zlib's; of 768x432 street frames on an x86 core 3 takes 1.8 ms and 10 KB, 1 takes 2.3 ms, Pillow's own 6 takes 3.3 ms
COMPRESSION = 3


def label_output(name: str) -> Output:
    """The folder, or the .npz file; of a name with a slash at its end the folder that has no end.

    Raises:
        InputError: a folder that isn't empty, a file where a folder is wanted or the other way round, or what a failed run
            kept.
    """
    path = Path(name)
    if name.endswith("/"):
        return folder_output(name, kind_of(path))
    refuse_remains(path)
    if path.suffix == ARCHIVE:
        if path.is_dir():
            raise InputError(
                f"{path} is a folder; name a file, such as {path / 'labels.npz'}, or a folder without .npz"
            )
        return Output(path)
    if path.is_file() or path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"{path} is no folder; label maps are written to a folder, or to a file that ends in {ARCHIVE}"
        )
    if path.suffix and not path.suffix[1:].isdecimal() and not path.is_dir():
        raise InputError(
            f"{path} looks like a file; label maps are written to a folder, such as {path.with_suffix('')}, or to a file "
            f"that ends in {ARCHIVE}, such as {path.with_suffix(ARCHIVE)}"
        )
    if not path.name or path.name == "..":
        raise InputError(
            f"{name} can't be given to label maps alone; name a new folder in it, such as {path / 'labels'}"
        )
    refuse_full_folder(path)
    return Output(path, folder=True)


def open_labels(name: str, source: FrameSource) -> Sink:
    """The sink for that folder or file. Raises InputError as `label_output`, or where it can't be written to."""
    output = label_output(name)
    if output.endless:
        return LabelSeries(output.path)
    return LabelFolder(output.path) if output.folder else LabelArchive(output.path)


class LabelFolder(Sink):
    """Writes PNGs to `partial_path(folder)` (numbered where it is taken), each under its name when it is whole.

    `close()` gives the folder its final name; where the process is killed, what was written is in the partial one.
    """

    def __init__(self, folder: Path):
        self.path = folder
        self._output = PartialFolder(folder, "label maps")
        self.partial = self._output.partial
        self._frames = 0
        self.size = 0  # that they take of the disk
        self._ended = False

    @property
    def kept(self) -> Path | None:
        return self._output.kept

    def add(self, result: Result, row: Row) -> Row:
        start_ns = time.monotonic_ns()
        name = free_name(stem_of(result), result.index, lambda stem: (self.partial / f"{stem}.png").exists())
        maps = {f"{name}.png": _png(result)}
        if (confidence_HW := result.confidence) is not None:
            maps = {f"{name}.pgm": _pgm(confidence_HW)} | maps  # the labels are last: a frame that has them is whole
        try:
            for file, data in maps.items():
                (self.partial / UNFINISHED).write_bytes(data)
                os.replace(self.partial / UNFINISHED, self.partial / file)
        except OSError as error:
            with suppress(OSError):
                (self.partial / f"{name}.pgm").unlink()
            raise self._failure(error) from error
        self._frames += 1
        self.size += sum(on_disk(len(data)) for data in maps.values())
        return row.after_encoding(milliseconds(start_ns, time.monotonic_ns()))

    def _failure(self, error: OSError) -> RunError:
        """Ends the folder, and says why."""
        self._ended = True
        with suppress(OSError):
            (self.partial / UNFINISHED).unlink()
        if not self.partial.is_dir():
            self._output.kept = None
            return OutputRemoved(f"{self.partial} was removed or moved by another process while it was written")
        if not self._frames:
            self._output.remove()
        return RunError(
            f"cannot write on to {self.path} ({error.strerror}); free some space or name another folder, and run again"
        )

    def close(self) -> None:
        self._end(self.path)

    def abandon(self) -> None:
        self._end(self.partial)

    def _end(self, name: Path) -> None:
        if self._ended:
            return
        self._ended = True
        if not self._frames:
            self._output.remove()
            return
        self._output.finish(name)


def kind_of(folder: Path) -> Kind:
    """What follows each other in a folder without an end: in `maps.npz/` archives, else folders of PNGs."""
    return ARCHIVES if folder.suffix == ARCHIVE else FOLDERS


class LabelSeries(Series["LabelFolder | LabelArchive"]):
    """Label maps without an end: folders of PNGs, or archives, each with an eighth of the disk that they may take, or of a day;
    the oldest go.

    A frame's map is with the kernel before the next frame. Archives are put on the disk as rows are; PNGs when the system does.

    Raises:
        InputError: the folder can't be written to.
    """

    def __init__(self, folder: Path):
        kind = kind_of(folder)
        super().__init__(Segments(folder, kind, kind.suffixes[0], "label maps"))
        self._begin = LabelArchive if kind is ARCHIVES else LabelFolder
        self._until_s = 0.0

    def add(self, result: Result, row: Row) -> Row:
        start_ns = time.monotonic_ns()
        self._make_room()
        current = self._part
        if current is None or current.size >= self._segments.segment_bytes or time.monotonic() >= self._until_s:
            current = self._next(self._begin)
            if isinstance(current, LabelArchive):
                self._segments.follow(current.fileno())
            self._until_s = time.monotonic() + SEGMENT_S
        begun_ns = time.monotonic_ns()
        row = current.add(result, row)
        added_ns = time.monotonic_ns()
        self._wrote()
        return row.after_encoding(milliseconds(start_ns, begun_ns) + milliseconds(added_ns, time.monotonic_ns()))


def _png(result: Result) -> bytes:
    """The labels, with their palette."""
    picture = Image.fromarray(result.labels)
    # whole: Pillow packs the ids of a short one into 4 bits, and 255, which is no class, needs 8
    picture.putpalette(bytes(channel for colour in result.palette for channel in colour).ljust(3 * 256, b"\0"))
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=COMPRESSION)
    return data.getvalue()


def _pgm(map_HW: UInt8) -> bytes:
    """A grey picture, uncompressed: of a 960x540 frame 518 KB in 2.5 ms on an x86 core; as a PNG 30 KB in 7.4 ms."""
    height, width = map_HW.shape
    return f"P5 {width} {height} 255\n".encode() + map_HW.tobytes()
