"""The record of a run as it is read back: a file of rows, or a folder of such files that follow each other.

A file that was cut off, by `kill -9`, a power cut or a full disk, is read up to there, and that is said.
"""

import csv
import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import open_regular
from edgeprune.runtime.meters.written import MOST_W
from edgeprune.runtime.remembered_tokens import MemoryFigures, MemorySums, RememberedTokens
from edgeprune.runtime.row import Row
from edgeprune.runtime.sinks.record import FORMATS, ROWS
from edgeprune.runtime.thing_counts import ThingCounts, ThingFigures

MOST_BYTES = 1 << 40  # of a file: months of rows
LINE_BYTES = 1 << 16
BROKEN = "\0\n"  # no row of any format
WHOLE = ("index", "capture_ns", "start_ns", "end_ns", "tokens", "dropped")  # columns of whole numbers
REAL = ("wait_ms", "latency_ms", "watts", "celsius")  # of numbers, NaN where a row has none
LEAST = {"celsius": -273.15, "watts": -MOST_W}  # noise of a rail that takes nothing, and a battery that is charged
MOST_MS = 1e12  # thirty years: more than a run lasts, and sums of them are still numbers
MOST = {"wait_ms": MOST_MS, "latency_ms": MOST_MS, "watts": 1e6, "celsius": 1e4}
LIVE = {"True": True, "False": False, "None": True, "": True}  # by the text of a cell; records of before have none
WORDS = ("asked", "bucket")
MOST_TOKENS = 1 << 31  # of a grid
MOST_THINGS = 1 << 20  # of a class in a frame: more than it has pixels to tell apart
MOST_CLASSES = 10_000  # in all: a folder may have runs of many bundles
NEEDED = {each.name for each in fields(Row) if each.default is MISSING} & {*WHOLE, *REAL, *WORDS}


@dataclass(frozen=True)
class RunRecord:
    """The rows of a record, column by column.

    Attributes:
        path: of the file or folder.
        whole, real: the columns WHOLE and REAL.
        asked, bucket: of each row, the place of its bucket in `names`.
        names: of the buckets.
        begins: the places of the rows with which a run begins; the monotonic clock may begin anew there.
        began: when the first file of a folder was begun, as `2026-01-31 23:59:59 UTC`; None of a single file.
        notes: what was left out, a line each.
        live: whether each row's source was, which has an age; true of rows that do not say so.
        shared: whether each row's watts are of a machine that computed the frames of other cameras, too.
        things: of each class, as the summary of a run has them; None where no row counts any.
        memory: of the rows whose frame remembered those before; None where there is none.
    """

    path: Path
    whole: Mapping[str, npt.NDArray[np.int64]]
    real: Mapping[str, npt.NDArray[np.float64]]
    asked: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int64]
    names: Sequence[str]
    begins: Sequence[int]
    began: str | None
    notes: Sequence[str]
    live: npt.NDArray[np.bool_]
    shared: npt.NDArray[np.bool_]
    things: Mapping[str, ThingFigures] | None = None
    memory: MemoryFigures | None = None

    def __len__(self) -> int:
        return len(self.bucket)


def is_record(path: Path) -> bool:
    """Whether it is named as a record: a file of one of FORMATS, or a folder that has files of rows."""
    if path.is_dir():
        return any(_is_of_a_record(each) for each in path.iterdir())
    return path.suffix in FORMATS


def records_in(folder: Path) -> list[Path]:
    """The records in a folder that is none itself: of a run of several cameras it has one for each."""
    if not folder.is_dir() or is_record(folder):
        return []
    return sorted(each for each in folder.iterdir() if each.is_dir() and is_record(each))


def _is_of_a_record(file: Path) -> bool:
    """Whether a run wrote it: a file, no folder and no link, of such a name."""
    return ROWS.number(file.name) is not None and file.is_file() and not file.is_symlink()


def read_record(path: Path) -> RunRecord:
    """Reads a record.

    Raises:
        InputError: it isn't there, is no record, has no rows, or rows that are damaged with good ones behind them.
    """
    files = [path]
    if path.is_dir():
        numbered = [(ROWS.number(each.name) or 0, each) for each in path.iterdir() if _is_of_a_record(each)]
        files = [each for _, each in sorted(numbered)]
    columns = _Columns()
    for file in files:
        columns.read(file)
    if columns.notes and not columns.bucket:
        raise InputError(f"{path} has no row that can be read; name a record that `edgeprune run --record` wrote")
    if not columns.bucket:
        raise InputError(f"{path} has no rows; name a record that `edgeprune run --record` wrote")
    return RunRecord(
        path,
        {name: np.array(values) for name, values in columns.whole.items()},
        {name: np.array(values) for name, values in columns.real.items()},
        np.array(columns.asked, np.int64),
        np.array(columns.bucket, np.int64),
        list(columns.names),
        columns.begins,
        _began(files[0]) if path.is_dir() else None,
        columns.notes,
        np.array(columns.live, np.bool_),
        np.array(columns.shared, np.bool_),
        columns.things.figures(),
        columns.memory.figures(),
    )


def _began(file: Path) -> str:
    when = datetime.strptime(file.name.split("-")[2].partition(".")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


class _Columns:
    """What is read until now."""

    def __init__(self) -> None:
        self.whole = {name: array("q") for name in WHOLE}
        self.real = {name: array("d") for name in REAL}
        self.asked, self.bucket = array("l"), array("l")
        self.live, self.shared = array("b"), array("b")
        self.names: dict[str, int] = {}
        self.begins: list[int] = []
        self.notes: list[str] = []
        self.things, self.memory = ThingCounts(), MemorySums()

    def read(self, file: Path) -> None:
        """Appends the rows of a file; what is damaged at its end is left out."""
        before, damaged = len(self.bucket), 0
        for number, cells in enumerate(_rows_of(file), 1):
            row = None if cells is None else _values(cells)
            if row is None:
                damaged += 1
                continue
            if damaged:
                raise InputError(
                    f"{file}: row {number - damaged} is damaged, and others follow it; take it out, or copy it again"
                )
            if len(self.bucket) == before and self._new_run(row):
                self.begins.append(before)
            self._add(row)
            if len(self.things) > MOST_CLASSES:
                raise InputError(
                    f"{file}: things of more than {MOST_CLASSES} classes, as no run counts; name what `run --record` wrote"
                )
        if damaged:
            what = "row is" if damaged == 1 else f"{damaged} rows are"
            self.notes.append(f"{file}: the last {what} cut off and left out")

    def _new_run(self, row: Mapping[str, Any]) -> bool:
        """Whether the row, the first of a file, is not what follows those before it."""
        if not self.bucket:
            return True
        # by the ends: a frame may begin while the one before it is in the graphs (runtime/pipeline.py)
        return bool(row["index"] <= self.whole["index"][-1] or row["end_ns"] < self.whole["end_ns"][-1])

    def _add(self, row: Mapping[str, Any]) -> None:
        for name, whole in self.whole.items():
            whole.append(row[name])
        for name, real in self.real.items():
            real.append(row[name])
        self.asked.append(self.names.setdefault(row["asked"], len(self.names)))
        self.bucket.append(self.names.setdefault(row["bucket"], len(self.names)))
        self.live.append(row["live"])
        self.shared.append(row["shared"])
        self.things.add(row["things"])
        if row["remembered"] is not None:
            self.memory.add(row["remembered"])


def _rows_of(file: Path) -> Iterator[Mapping[str, Any] | None]:
    """The cells of each row by their columns; None for one that can't be read."""
    with open_regular(file, "record", MOST_BYTES) as (stream, _):
        lines = _lines(stream)
        if file.suffix == ".jsonl":
            yield from map(_object, lines)
            return
        head = next(lines, None)
        if head is None or head == BROKEN:
            return
        names = head.rstrip("\r\n").split(",")
        if NEEDED - set(names):
            missing = ", ".join(sorted(NEEDED - set(names)))
            raise InputError(
                f"{file} is no record of a run: it has no column {missing}; name what `run --record` wrote"
            )
        reader = csv.reader(lines)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield None
                continue
            whole = len(cells) == len(names)
            yield dict(zip(names, cells, strict=False)) if whole else None


def _lines(stream: Any) -> Iterator[str]:
    """Lines as text; BROKEN for one whose end is missing, or that is too long."""
    while line := stream.readline(LINE_BYTES):
        text = line.decode(errors="replace")
        yield text if text.endswith("\n") else BROKEN


def _object(line: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _values(cells: Mapping[str, Any]) -> dict[str, Any] | None:
    """The numbers and words of a row; None where they are none of a row."""
    row: dict[str, Any] = {}
    try:
        for name in WHOLE:
            row[name] = int(cells[name])
            if not 0 <= row[name] < 1 << 62:
                return None
        for name in REAL:
            cell = cells.get(name)
            row[name] = math.nan if cell in (None, "") else float(cell)
            if not (LEAST.get(name, 0.0) <= row[name] <= MOST[name] or math.isnan(row[name])):
                return None
        for name in WORDS:
            row[name] = str(cells[name])
        row["live"] = LIVE[str(cells.get("live"))]
        row["shared"] = int(cells.get("cameras") or 1) > 1
        row["things"] = _things(cells.get("things"))
        row["remembered"] = _remembered(cells)
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    return None if math.isnan(row["latency_ms"]) or row["end_ns"] < row["start_ns"] else row


def _remembered(cells: Mapping[str, Any]) -> RememberedTokens | None:
    """The tokens of a frame that remembered those before; None of one that did not. Raises ValueError."""
    given = [cells.get(name) for name in RememberedTokens._fields]
    if all(cell in (None, "") for cell in given):
        return None
    whole = [
        int(cell)
        for cell in given
        if type(cell) is int or (isinstance(cell, str) and cell.isascii() and cell.isdigit())
    ]
    if len(whole) < len(given) or min(whole) < 0 or max(whole) > MOST_TOKENS:
        raise ValueError("no tokens of a grid")
    tokens = RememberedTokens(*whole)
    if tokens.refreshed > tokens.computed:
        raise ValueError("no tokens of a grid")
    return tokens


def _things(cell: Any) -> dict[str, int] | None:
    """The counts of a row, JSON within JSON lines or a cell of a table; None where it has none. Raises ValueError."""
    if cell is None or cell == "":
        return None
    found = json.loads(cell) if isinstance(cell, str) else cell
    if not isinstance(found, dict) or len(found) > MOST_CLASSES:
        raise ValueError("no counts of things")
    if not all(type(count) is int and 0 <= count <= MOST_THINGS for count in found.values()):
        raise ValueError("no counts of things")
    return found
