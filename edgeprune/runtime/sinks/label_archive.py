"""Label maps of a run in one file of arrays: `np.load("labels.npz")["000012"]`, each at its frame's own pixels; and where the
bundle has it their confidence, `["000012/confidence"]`.

An NPZ is a zip of .npy files, whose directory stands at its end. Each frame's member is on the disk when the frame is done, the
directory comes with the end of the run: a process that is killed leaves members without it, which `zip -FF` finds again.
"""

import io
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from edgeprune.base.errors import RunError
from edgeprune.base.files import partial_path
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.samples import UInt8
from edgeprune.runtime.row import Row, milliseconds
from edgeprune.runtime.sinks.partial import PartialFile
from edgeprune.runtime.sinks.sink import Sink
from edgeprune.runtime.tasks import Result

ARCHIVE = ".npz"
ENTRY_BYTES = 128  # at most, of a member in the directory, but for its name


def stem_of(result: Result) -> str:
    """What a frame's label map is called: as the frame (`a.jpg` -> `a`), else by its index, so that names sort as frames."""
    name = Path(result.name or "")
    stem = name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name
    return stem or f"{result.index:08d}"


def free_name(stem: str, index: int, taken: Callable[[str], bool]) -> str:
    """The name of a frame's label map: the frame's own, with its index behind it for as long as another frame has that name."""
    while taken(stem):
        stem = f"{stem}-{index:08d}"
    return stem


class LabelArchive(Sink):
    """Writes to `partial_path(path)` (numbered where it is taken); `close()` gives the file its final name.

    Where the disk is full, the last members make room for the directory: what was written before stays readable.
    """

    def __init__(self, path: Path):
        self.path = path
        self._output = PartialFile(path, "label maps")
        self.partial, self._file = self._output.partial, self._output.file
        before = partial_path(path)
        if self.partial != before and not zipfile.is_zipfile(before):
            self.note = f"{before} was killed in writing; `zip -FF {before} --out FILE.npz` makes it readable"
        self._members: list[list[zipfile.ZipInfo]] = []  # of each frame
        self._names: set[str] = set()
        self._whole_bytes = self._directory_bytes = 0

    @property
    def kept(self) -> Path | None:
        return self._output.kept

    @property
    def size(self) -> int:
        """Its bytes, once it has its directory, at most."""
        return self._whole_bytes + self._directory_bytes

    def fileno(self) -> int:
        """The descriptor of the open file."""
        return self._file.fileno()

    def add(self, result: Result, row: Row) -> Row:
        start_ns = time.monotonic_ns()
        stem = stem_of(result).encode(errors="backslashreplace").decode()
        name = free_name(stem, result.index, self._names.__contains__)
        maps = {f"{name}.npy": result.labels}
        if result.confidence is not None:
            maps[f"{name}/confidence.npy"] = result.confidence  # no frame's name has a slash
        packed = [_packed(*each) for each in maps.items()]
        try:
            self._put(b"".join(data for data, _ in packed))
        except OSError as error:
            raise self._failure(error) from error
        for data, member in packed:
            member.header_offset = self._whole_bytes
            self._whole_bytes += len(data)
        self._members.append([member for _, member in packed])
        self._directory_bytes += _entry_bytes(self._members[-1])
        self._names.add(name)
        return row.after_encoding(milliseconds(start_ns, time.monotonic_ns()))

    def _put(self, data: bytes) -> None:
        """Appends it behind the whole members; OSError where that can't be."""
        self._file.seek(self._whole_bytes)
        done = 0
        while done < len(data):
            done += self._file.write(data[done:]) or 0

    def _failure(self, error: OSError) -> RunError:
        """Ends the file, and says why, and how many frames are in it: fewer than were taken."""
        self._end_full()
        kept = f"the first {len(self._members)} frames are in {self.partial}" if self.kept else "none is kept in it"
        return RunError(
            f"cannot write on to {self.path} ({error.strerror}); {kept}; free some space or name another folder, and run "
            "again"
        )

    def _end_full(self) -> None:
        """Ends the file on a full disk, with as many frames as leave room for their directory."""
        room = self._whole_bytes
        sizes = [_entry_bytes(frame) for frame in self._members]
        while self._members and self._whole_bytes + sum(sizes) + ENTRY_BYTES > room:
            self._whole_bytes = self._members.pop()[0].header_offset
            sizes.pop()
        with suppress(OSError):
            self._file.truncate(self._whole_bytes)
            if self._members:
                self._put(self._directory())
                self._file.close()
                return
        self._output.remove()

    def _directory(self) -> bytes:
        """What stands behind the members."""
        behind = _Behind(self._whole_bytes)
        with zipfile.ZipFile(behind, "w") as archive:
            archive.infolist().extend(member for frame in self._members for member in frame)
        return behind.getvalue()

    def close(self) -> None:
        self._end(self.path)

    def abandon(self) -> None:
        self._end(self.partial)

    def _end(self, name: Path) -> None:
        if self._file.closed:
            return
        if not self._members:
            self._output.remove()
            return
        try:
            self._put(self._directory())
        except OSError as error:
            raise self._failure(error) from error
        self._output.finish(name)


def _entry_bytes(frame: list[zipfile.ZipInfo]) -> int:
    """What a frame takes in the directory, at most."""
    return sum(ENTRY_BYTES + len(member.filename.encode()) for member in frame)


class _Behind(io.BytesIO):
    """A file in memory that counts its bytes from where it will stand in another."""

    def __init__(self, offset: int):
        super().__init__()
        self._offset = offset

    def tell(self) -> int:
        return self._offset + super().tell()

    def seek(self, to: int, whence: int = io.SEEK_SET) -> int:
        return self._offset + super().seek(to - self._offset if whence == io.SEEK_SET else to, whence)


def _packed(name: str, label_HW: UInt8) -> tuple[bytes, zipfile.ZipInfo]:
    """A member of an archive, and its entry in the directory."""
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, label_HW)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        packed.writestr(name, array.getvalue())
        length = archive.tell()
    return archive.getvalue()[:length], packed.infolist()[0]
