"""The rows of a run: streamed to a file as the run goes, and kept in memory in as few bytes as the summary needs."""

import csv
import io
import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, overload

from edgeprune.base.errors import InputError, RunError, choose
from edgeprune.base.outputs import OutputRemoved, create_partial, finish_partial, refuse_remains, with_suffix
from edgeprune.runtime.summary import STAGES

# Times of a row are rounded to as much, in a file and in memory alike, so that both give the very same figures.
DIGITS = 4  # of a millisecond
MS_COLUMNS = ("wait_ms", *(f"{stage}_ms" for stage in STAGES), "latency_ms")
# capture_ns, start_ns and end_ns are of the monotonic clock; presentation_s is of the file, empty where it has no times
COLUMNS = ("index", "capture_ns", "presentation_s", "start_ns", "end_ns", *MS_COLUMNS, "bucket", "tokens", "dropped")

Row = Mapping[str, Any]


def csv_line(row: Row) -> str:
    """One line; None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([row[column] for column in COLUMNS])
    return text.getvalue()


def json_line(row: Row) -> str:
    """One JSON object on a line."""
    return json.dumps({column: row[column] for column in COLUMNS}) + "\n"


# suffix -> (what stands above the rows, a row's line)
FORMATS: dict[str, tuple[str, Callable[[Row], str]]] = {
    ".csv": (",".join(COLUMNS) + "\n", csv_line),
    ".jsonl": ("", json_line),
}


def check_record_name(path: Path) -> None:
    """Refuses what can't be the name of a record, before anything is begun.

    Raises:
        InputError: it is a folder, its suffix is no format, or it is what a failed run kept.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file, such as {path / 'rows.csv'}")
    if not path.suffix:
        raise InputError(
            f"a record is written as {' or '.join(FORMATS)}, not {path.name!r}; type {with_suffix(path, '.csv', 'rows')}"
        )
    choose(FORMATS, path.suffix, "format of a record:")
    refuse_remains(path)


class Record:
    """Writes rows to `partial_path(path)` (numbered where it is taken), each as it comes, unbuffered: a process that is
    killed loses none. `close()` gives the file its final name.

    Attributes:
        partial: where the rows are until `close()`; after a failure they stay there, every one whole.
        kept: where they are now; None where there are none any more.

    Raises:
        InputError: as `check_record_name`, or the folder can't be written to.
        RunError: the disk is full.
    """

    def __init__(self, path: Path):
        check_record_name(path)
        header, self._line = FORMATS[path.suffix]
        self.path = path
        self.partial, self._file = create_partial(path, "the record")
        self._whole_bytes = self._rows = 0
        self.kept: Path | None = self.partial
        self._put(header)

    def add(self, row: Row) -> None:
        """Appends a row with a value (or None) for each of COLUMNS.

        Raises:
            RunError: the disk is full.
        """
        self._put(self._line(row))
        self._rows += 1

    def _put(self, text: str) -> None:
        data = text.encode()
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
                self.kept = None
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
            self.kept = None
            raise
        self.kept = name


class Ledger(Sequence[Row]):
    """The rows of a run in memory, 57 bytes each (0.1 MB per 1,000 frames), as `summarise_run` takes them."""

    def __init__(self) -> None:
        self._ms = {column: array("i") for column in MS_COLUMNS}  # in units of the last digit; -1: None
        self._ns = {column: array("q") for column in ("start_ns", "end_ns")}
        self._counts = {column: array("q") for column in ("tokens", "dropped")}
        self._buckets = array("B")
        self._names: list[str] = []

    def add(self, row: Row) -> None:
        """Keeps a row."""
        for column, units in self._ms.items():
            units.append(-1 if row[column] is None else round(row[column] * 10**DIGITS))
        for column, numbers in (*self._ns.items(), *self._counts.items()):
            numbers.append(row[column])
        if row["bucket"] not in self._names:
            self._names.append(row["bucket"])
        self._buckets.append(self._names.index(row["bucket"]))

    def value(self, column: str, index: int) -> Any:
        """A cell."""
        if column in self._ms:
            units = self._ms[column][index]
            return None if units < 0 else units / 10**DIGITS
        if column == "bucket":
            return self._names[self._buckets[index]]
        return (self._ns.get(column) or self._counts[column])[index]

    def columns(self) -> Iterator[str]:
        """Names of the columns that are kept."""
        return iter((*self._ms, *self._ns, *self._counts, "bucket"))

    def __len__(self) -> int:
        return len(self._buckets)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> "Row | Sequence[Row]":
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return _LedgerRow(self, index)


class _LedgerRow(Mapping[str, Any]):
    """A row of a ledger, read when it is asked for."""

    def __init__(self, ledger: Ledger, index: int):
        self._ledger, self._index = ledger, index

    def __getitem__(self, column: str) -> Any:
        return self._ledger.value(column, self._index)

    def __iter__(self) -> Iterator[str]:
        return self._ledger.columns()

    def __len__(self) -> int:
        return len(list(self._ledger.columns()))
