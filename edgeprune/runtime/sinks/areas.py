"""The share of each class in each frame, and each thing where the bundle finds things, as JSON lines: for plots, alarms, other
programs."""

import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.base.outputs import refuse_remains, with_suffix
from edgeprune.runtime.cameras.source import FrameSource
from edgeprune.runtime.row import Row, milliseconds
from edgeprune.runtime.sinks.lines import LineFile, LineFolder
from edgeprune.runtime.sinks.segments import Kind, Segments, folder_output
from edgeprune.runtime.sinks.sink import Output, Sink
from edgeprune.runtime.sinks.split import names_a_folder
from edgeprune.runtime.tasks import Result

SUFFIX = ".jsonl"
AREAS = Kind("areas", (SUFFIX,), "areas.jsonl")
WHAT = "the areas"


def areas_output(name: str) -> Output:
    """The file of areas, or the folder: `areas.jsonl`, `areas/`.

    Raises:
        InputError: it is no .jsonl, what a failed run kept, or a folder that has other files.
    """
    if names_a_folder(name):
        return folder_output(name, AREAS)
    path = Path(name)
    if name == "-":
        raise InputError("standard output has the run's own result alone; name a file, such as areas.jsonl")
    if path.suffix != SUFFIX:
        raise InputError(f"areas are written as {SUFFIX}, not {path.name!r}; type {with_suffix(path, SUFFIX, 'areas')}")
    refuse_remains(path)
    return Output(path)


def open_areas(name: str, source: FrameSource) -> Sink:
    """The sink for that file or folder. Raises InputError as `areas_output`, or where it can't be written to."""
    output = areas_output(name)
    return AreasFolder(output.path) if output.endless else AreasFile(output.path)


def areas_of(result: Result, masks: bool = True) -> dict[str, Any]:
    """What is said of a frame: its index, name, times, the share of each class, and the things of a task that finds some, with
    their `masks`; JSON.

    `time` is when it was captured, by this machine's clock, in UTC; `presentation_s` when a file shows it.
    """
    frame = result.frame
    captured_s = time.time() - (time.monotonic_ns() - frame.capture_ns) / 1e9
    captured = datetime.fromtimestamp(captured_s, timezone.utc)
    return {
        "index": result.index,
        "time": f"{captured:%Y-%m-%dT%H:%M:%S}.{captured.microsecond // 1000:03d}Z",
        "name": result.name,
        "presentation_s": None if frame.presentation_s is None else round(frame.presentation_s, 6),
        **result.to_json(masks),
    }


class AreasFile(LineFile):
    """A line per frame in one file. Raises InputError and RunError as `LineFile`."""

    def __init__(self, path: Path):
        super().__init__(path, WHAT)

    def add(self, result: Result, row: Row) -> Row:
        return _added(self, result, row)


class AreasFolder(LineFolder):
    """The same in the files of a folder. Raises InputError where it can't be written to."""

    def __init__(self, folder: Path):
        super().__init__(Segments(folder, AREAS, SUFFIX, WHAT), AreasFile)

    def add(self, result: Result, row: Row) -> Row:
        return _added(self, result, row)


def _added(sink: LineFile | LineFolder, result: Result, row: Row) -> Row:
    start_ns = time.monotonic_ns()
    sink.write_line(json.dumps(areas_of(result)) + "\n")
    return row.after_encoding(milliseconds(start_ns, time.monotonic_ns()))
