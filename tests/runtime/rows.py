"""Rows of a run, and records as they are read back."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgeprune.runtime.row import Ledger, Row
from edgeprune.runtime.sinks.record import COLUMNS


def row(index: int, **values: Any) -> Row:
    """A frame every 10 ms that took 1 ms; its stages took 1.25 ms more than its index, the encoding did not run."""
    times: dict[str, Any] = {column: 1.25 + index for column in COLUMNS if column.endswith("_ms")}
    times |= {"start_ns": 10**12 + 10**7 * index, "end_ns": 10**12 + 10**7 * index + 10**6, "encode_ms": None}
    about = {"index": index, "name": None, "capture_ns": index, "presentation_s": index / 4}
    return Row(
        **(
            times
            | about
            | {"asked": "full", "bucket": "full", "tokens": 5000, "confidence": None, "dropped": 0}
            | values
        )
    )


def read(path: str | Path) -> list[dict[str, Any]]:
    """The cells of a record, as its format has them."""
    with Path(path).open() as file:
        if Path(path).suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file))


def ledger_of(cells: Iterable[Mapping[str, Any]]) -> Ledger:
    """What a summary is recomputed from."""
    ledger = Ledger()
    for each in cells:
        ledger.add(Row(**{column: _value(column, each[column]) for column in COLUMNS}))
    return ledger


def _value(column: str, cell: Any) -> Any:
    if cell in (None, ""):
        return None
    if column in ("name", "asked", "bucket"):
        return cell
    if column == "live":
        return str(cell) == "True"
    if column == "things":
        return json.loads(cell) if isinstance(cell, str) else cell
    return float(cell) if column.endswith(("_ms", "_s", "confidence", "watts", "celsius")) else int(cell)
