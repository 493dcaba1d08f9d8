"""The record of a run: a row per frame, streamed to a file as the run goes, or to a folder of files that has no end."""

import csv
import io
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from edgeprune.base.errors import InputError, RunError, choose
from edgeprune.base.outputs import OutputRemoved, create_partial, finish_partial, refuse_remains, with_suffix
from edgeprune.runtime.cameras.source import FrameSource
from edgeprune.runtime.row import Row
from edgeprune.runtime.sinks.segments import Kind, Segments, folder_output, names_a_folder
from edgeprune.runtime.sinks.sink import Output, Sink
from edgeprune.runtime.tasks import Result

COLUMNS = tuple(field.name for field in fields(Row))


def csv_line(row: Row) -> str:
    """One line; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([getattr(row, column) for column in COLUMNS])
    return text.getvalue()


def json_line(row: Row) -> str:
    """One JSON object on a line."""
    return json.dumps({column: getattr(row, column) for column in COLUMNS}) + "\n"


# suffix -> (what stands above the rows, a row's line)
FORMATS: dict[str, tuple[str, Callable[[Row], str]]] = {
    ".csv": (",".join(COLUMNS) + "\n", csv_line),
    ".jsonl": ("", json_line),
}
ROWS = Kind("rows", tuple(FORMATS), "rows.csv")
SEGMENT_BYTES, SEGMENT_S = (
    16 * 10**6,
    86_400.0,
)  # of a folder's files, at most: two hours of 15 frames a second, or a day


def open_record(name: str, source: FrameSource) -> Sink:
    """The sink for that file or folder. Raises as `record_output`, `Record` and `RecordFolder`."""
    output = record_output(name)
    return RecordFolder(output.path) if output.endless else Record(output.path)


def record_output(name: str) -> Output:
    """The file of a record, or the folder: `rows.csv`, `rows/`; `rows.jsonl/` has files of that format.

    Raises:
        InputError: its suffix is no format, it is what a failed run kept, or a folder that has other files.
    """
    if names_a_folder(name):
        return folder_output(name, ROWS)
    path = Path(name)
    if not path.suffix:
        raise InputError(
            f"a record is written as {' or '.join(FORMATS)}, not {path.name!r}; type {with_suffix(path, '.csv', 'rows')}"
        )
    choose(FORMATS, path.suffix, "format of a record:")
    refuse_remains(path)
    return Output(path)


class Record(Sink):
    """Writes rows to `partial_path(path)` (numbered where it is taken), each as it comes, unbuffered: a process that is
    killed loses none. `close()` gives the file its final name.

    Attributes:
        partial: where the rows are until `close()`; after a failure they stay there, every one whole.

    Raises:
        InputError: as `record_output` of a file, or the folder can't be written to.
        RunError: the disk is full.
    """

    def __init__(self, path: Path):
        self.path = path
        header, self._line = FORMATS[path.suffix]
        self.partial, self._file = create_partial(path, "the record")
        self._whole_bytes = self._rows = 0
        self._kept: Path | None = self.partial
        self._put(header)

    @property
    def kept(self) -> Path | None:
        return self._kept

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._whole_bytes

    def fileno(self) -> int:
        """The descriptor of the open file."""
        return self._file.fileno()

    def add(self, result: Result, row: Row) -> Row:
        self.write(row)
        return row

    def write(self, row: Row) -> None:
        """Appends a row.

        Raises:
            RunError: the disk is full.
        """
        self._put(self._line(row))
        self._rows += 1

    def _put(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")  # a file may have a name that is no text
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:]) or 0
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._whole_bytes)  # half a row is no row
            self._close_here()
            raise RunError(
                f"cannot write on to {self.path} ({error.strerror}); free some space or name another folder, and run again"
            ) from error
        self._whole_bytes += done

    def _close_here(self) -> None:
        """Ends the file after a failure; one without a row goes."""
        with suppress(OSError):
            self._file.close()
            if not self._rows:
                self._kept = None
                self.partial.unlink()

    def close(self) -> None:
        """Ends the file and renames it to its final name; does nothing after a failure or a second time.

        Raises:
            RunError: it can't be renamed, or is gone.
        """
        if not self._file.closed:
            self._finish(self.path)

    def abandon(self) -> None:
        """Ends the file but leaves it under its partial name: the run failed. Without a row it goes.

        Raises:
            RunError: it is gone.
        """
        if self._rows and not self._file.closed:
            self._finish(self.partial)
        elif not self._file.closed:
            self._close_here()

    def _finish(self, name: Path) -> None:
        try:
            finish_partial(self.partial, self._file, name)
        except OutputRemoved:
            self._kept = None
            raise
        self._kept = name


class RecordFolder(Sink):
    """Writes rows to the files of a folder, without an end: a new one after SEGMENT_BYTES or SEGMENT_S, the oldest are removed.

    A row is with the kernel before the next frame: a process that is killed loses none. It is on the disk SYNC_S later: a
    power cut loses as much.

    Raises:
        InputError: the folder can't be written to.
    """

    def __init__(self, folder: Path):
        suffix = folder.suffix if folder.suffix in FORMATS else next(iter(FORMATS))
        self._segments = Segments(folder, ROWS, suffix, "the record")
        self._record: Record | None = None
        self._until_s = 0.0
        self._rows = 0

    @property
    def kept(self) -> Path | None:
        return self._segments.folder if self._rows else None

    def bound(self, keep_bytes: int) -> None:
        self._segments.keep_bytes = keep_bytes

    def add(self, result: Result, row: Row) -> Row:
        self.write(row)
        return row

    def write(self, row: Row) -> None:
        """Appends a row.

        Raises:
            RunError: the disk is full or broken, or the oldest file can't be removed.
        """
        record = self._record
        full = record and record.size >= min(SEGMENT_BYTES, self._segments.segment_bytes)
        if record is None or full or time.monotonic() >= self._until_s:
            record = self._next()
        record.write(row)
        self._rows += 1
        self._segments.make_room(record.size)

    def _next(self) -> Record:
        """Ends the file that is written, and begins the next."""
        if self._record:
            self._record.close()
        self._record = Record(self._segments.next_path())
        self._segments.follow(self._record.fileno())
        self._until_s = time.monotonic() + SEGMENT_S
        return self._record

    def close(self) -> None:
        self._end(Record.close)

    def abandon(self) -> None:
        self._end(Record.abandon)

    def _end(self, end: Callable[[Record], None]) -> None:
        try:
            if self._record:
                end(self._record)
        finally:
            self._segments.close()
