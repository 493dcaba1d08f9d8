"""Rows on disk and in memory."""

import csv
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.sinks.record import COLUMNS, Ledger, Record
from edgeprune.runtime.summary import summarise_run


def row(index: int, **values: Any) -> dict[str, Any]:
    times = {column: 1.25 + index for column in COLUMNS if column.endswith("_ms")}
    numbers = {
        "index": index,
        "capture_ns": index,
        "presentation_s": index / 4,
        "start_ns": 10**12 + 10**7 * index,
        "tokens": 5000,
        "dropped": 0,
    }
    return times | numbers | {"end_ns": 10**12 + 10**7 * index + 10**6, "bucket": "full", "encode_ms": None} | values


def read(path: Path) -> list[dict[str, Any]]:
    with path.open() as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_rows_can_be_read_while_they_are_written(tmp_path: Path, name: str) -> None:
    record = Record(tmp_path / "new" / name)
    for index in range(3):
        record.add(row(index))
        assert len(read(record.partial)) == index + 1
    assert not record.path.exists()
    record.close()
    record.close()
    assert not record.partial.exists()
    rows = read(record.path)
    assert [int(entry["index"]) for entry in rows] == [0, 1, 2]
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["encode_ms"] in (None, "")


def test_abandoned_rows_stay_under_the_partial_name(tmp_path: Path) -> None:
    record = Record(tmp_path / "rows.csv")
    record.add(row(0))
    record.abandon()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.partial.csv"]


def test_what_a_failed_run_kept_is_not_written_over(tmp_path: Path) -> None:
    for index in range(3):
        record = Record(tmp_path / "rows.csv")
        record.add(row(index))
        record.abandon()
    names = ["rows.partial.csv", "rows.partial-2.csv", "rows.partial-3.csv"]
    assert [int(read(tmp_path / name)[0]["index"]) for name in names] == [0, 1, 2]
    with pytest.raises(InputError, match="is what a run that failed has kept; name another file"):
        Record(tmp_path / "rows.partial-2.csv")


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_full_disk_leaves_whole_rows(tmp_path: Path, name: str) -> None:
    record = Record(tmp_path / name)
    record.add(row(0))
    disk = record._file

    class Full:
        """Takes 10 bytes more."""

        closed = False
        left = 10

        def write(self, data: bytes) -> int:
            if not self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left = 0
            return disk.write(data[:10])

        def truncate(self, size: int) -> int:
            return disk.truncate(size)

        def close(self) -> None:
            disk.close()

    record._file = Full()  # type: ignore[assignment]
    with pytest.raises(RunError, match=r"cannot write on to .*rows\..* \(No space left"):
        record.add(row(1))
    assert [int(entry["index"]) for entry in read(record.partial)] == [0]
    assert record.partial.read_bytes().endswith(b"\n")


def test_paths_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown format of a record: '.txt'; choices: .csv, .jsonl"):
        Record(tmp_path / "rows.txt")
    (tmp_path / "folder.csv").mkdir()
    for name in ("folder.csv", ".."):
        with pytest.raises(InputError, match=f"is a folder; name a file, such as .*{re.escape(name)}/rows.csv"):
            Record(tmp_path / name)
    for name, typed in (("rows", "rows.csv"), (".csv", "rows.csv")):
        with pytest.raises(InputError, match=f"written as .csv or .jsonl, not '{name}'; type {tmp_path / typed}$"):
            Record(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match="is neither a file nor a folder"):
        Record(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match="cannot write the record to .*File name too long"):
        Record(tmp_path / f"{'x' * 250}.csv")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the record"):
        Record(tmp_path / "file" / "rows.csv")


def test_a_ledger_gives_back_what_the_summary_reads() -> None:
    rows = [
        row(index, bucket="half" if index % 3 else "full", dropped=index, fit_ms=0.1234 * index) for index in range(9)
    ]
    ledger = Ledger()
    for entry in rows:
        ledger.add(entry)
    assert summarise_run(ledger) == summarise_run(rows)
    assert len(ledger) == 9
    assert ledger[-1]["bucket"] == "half"
    assert [entry["tokens"] for entry in ledger[2:4]] == [5000, 5000]
    with pytest.raises(IndexError):
        ledger[9]
    assert {**ledger[1]} == {key: rows[1][key] for key in ledger[1]}
