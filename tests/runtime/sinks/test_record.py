"""Rows on disk and in memory."""

import errno
import os
import re
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.sinks.record import COLUMNS, Record, record_output
from tests.runtime.rows import read, row


def open_record(path: Path) -> Record:
    return Record(record_output(str(path)).path)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_rows_can_be_read_while_they_are_written(tmp_path: Path, name: str) -> None:
    record = open_record(tmp_path / "new" / name)
    for index in range(3):
        record.write(row(index))
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
    record = open_record(tmp_path / "rows.csv")
    record.write(row(0))
    record.abandon()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.partial.csv"]


def test_what_a_failed_run_kept_is_not_written_over(tmp_path: Path) -> None:
    for index in range(3):
        record = open_record(tmp_path / "rows.csv")
        record.write(row(index))
        record.abandon()
    names = ["rows.partial.csv", "rows.partial-2.csv", "rows.partial-3.csv"]
    assert [int(read(tmp_path / name)[0]["index"]) for name in names] == [0, 1, 2]
    with pytest.raises(InputError, match="is what a run that failed has kept; name another file"):
        open_record(tmp_path / "rows.partial-2.csv")


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_full_disk_leaves_whole_rows(tmp_path: Path, name: str) -> None:
    record = open_record(tmp_path / name)
    record.write(row(0))
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
        record.write(row(1))
    assert [int(entry["index"]) for entry in read(record.partial)] == [0]
    assert record.partial.read_bytes().endswith(b"\n")


def test_paths_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown format of a record: '.txt'; choices: .csv, .jsonl"):
        open_record(tmp_path / "rows.txt")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / "theirs").touch()
    for name in ("folder.csv", ".."):
        with pytest.raises(InputError, match=f"is a folder; name a file, such as .*{re.escape(name)}/rows.csv"):
            open_record(tmp_path / name)
    for name, typed in (("rows", "rows.csv"), (".csv", "rows.csv")):
        with pytest.raises(InputError, match=f"written as .csv or .jsonl, not '{name}'; type {tmp_path / typed}$"):
            open_record(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match="is neither a file nor a folder"):
        open_record(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match="cannot write the record to .*File name too long"):
        open_record(tmp_path / f"{'x' * 250}.csv")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the record"):
        open_record(tmp_path / "file" / "rows.csv")


def test_names_of_frames_are_kept_whatever_they_are(tmp_path: Path) -> None:
    names = ["000012", None, 'a,"b"\n.png', "\udcff.png"]
    for suffix in (".csv", ".jsonl"):
        record = open_record(tmp_path / f"rows{suffix}")
        for index, name in enumerate(names):
            record.write(row(index, name=name))
        record.close()
    assert [each["name"] for each in read(tmp_path / "rows.jsonl")] == names
    assert [each["name"] for each in read(tmp_path / "rows.csv")] == ["000012", "", names[2], "\\udcff.png"]


def test_the_docs_have_each_column_in_its_order() -> None:
    page = (Path(__file__).parents[3] / "docs" / "records.md").read_text().partition("## Columns")[2]
    table = [line.split("|")[1] for line in page.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    assert re.findall(r"`(\w+)`", " ".join(table)) == list(COLUMNS)
