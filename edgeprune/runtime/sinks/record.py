"""The record of a run: a row per frame, streamed to a file as the run goes, or to a folder of files that has no end."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError, choose
from edgeprune.base.outputs import refuse_remains, with_suffix
from edgeprune.runtime.cameras.source import FrameSource
from edgeprune.runtime.row import Row
from edgeprune.runtime.sinks.lines import LineFile, LineFolder
from edgeprune.runtime.sinks.segments import Kind, Segments, folder_output
from edgeprune.runtime.sinks.sink import Output, Sink
from edgeprune.runtime.sinks.split import names_a_folder
from edgeprune.runtime.tasks import Result

COLUMNS = tuple(field.name for field in fields(Row))


def csv_line(row: Row) -> str:
    """One line; None is an empty cell, counts of things are JSON."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([_cell(getattr(row, column)) for column in COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


def json_line(row: Row) -> str:
    """One JSON object on a line."""
    return json.dumps({column: getattr(row, column) for column in COLUMNS}) + "\n"


# suffix -> (what stands above the rows, a row's line)
FORMATS: dict[str, tuple[str, Callable[[Row], str]]] = {
    ".csv": (",".join(COLUMNS) + "\n", csv_line),
    ".jsonl": ("", json_line),
}
ROWS = Kind("rows", tuple(FORMATS), "rows.csv")


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


class Record(LineFile):
    """The rows in one file. Raises InputError and RunError as `LineFile`."""

    def __init__(self, path: Path):
        header, self._line = FORMATS[path.suffix]
        super().__init__(path, "the record", header)

    def add(self, result: Result, row: Row) -> Row:
        self.write(row)
        return row

    def write(self, row: Row) -> None:
        """Appends a row. Raises RunError where the disk is full."""
        self.write_line(self._line(row))


class RecordFolder(LineFolder):
    """The rows in the files of a folder. Raises InputError where it can't be written to."""

    def __init__(self, folder: Path):
        suffix = folder.suffix if folder.suffix in FORMATS else next(iter(FORMATS))
        self._line = FORMATS[suffix][1]
        super().__init__(Segments(folder, ROWS, suffix, "the record"), Record)

    def add(self, result: Result, row: Row) -> Row:
        self.write(row)
        return row

    def write(self, row: Row) -> None:
        """Appends a row. Raises RunError as `write_line`."""
        self.write_line(self._line(row))
