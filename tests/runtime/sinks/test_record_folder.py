"""A record without an end: files in a folder, bounded, whole after `kill -9`, on the disk every second."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.outputs import Outputs
from edgeprune.runtime.sinks import lines, segments
from edgeprune.runtime.sinks.lines import LineFile
from edgeprune.runtime.sinks.record import ROWS, RecordFolder, record_output
from tests.runtime.loop.fakes import Scripted
from tests.runtime.rows import read, row
from tests.runtime.sinks.found import Found

ROOT = Path(__file__).parents[3]


def files(folder: Path) -> list[Path]:
    """Its files of rows, in their order."""
    return sorted((each for each in folder.iterdir() if ROWS.number(each.name)), key=lambda each: each.name[:13])


def indices(folder: Path) -> list[int]:
    return [int(each["index"]) for path in files(folder) for each in read(path)]


@pytest.mark.parametrize("name", ["rows", "rows.jsonl"])
def test_a_new_file_where_one_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(lines, "SEGMENT_BYTES", 1100)
    folder = tmp_path / name
    outputs = Outputs({"record": f"{folder}/"}, Scripted(0))
    for index in range(20):
        outputs.add(Found(index), row(index))
        assert indices(folder) == list(range(index + 1))  # while it is written, too
        assert [".partial" in path.name for path in files(folder)] == [False] * (len(files(folder)) - 1) + [True]
    outputs.end(failed=False)
    assert indices(folder) == list(range(20)) and 2 < len(files(folder)) < 10
    assert {path.suffix for path in files(folder)} == {".jsonl" if name.endswith(".jsonl") else ".csv"}
    assert not [path for path in files(folder) if ".partial" in path.name or path.stat().st_size > 1600]
    assert outputs.paths()["record"] == str(folder)


def test_a_new_file_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "SEGMENT_S", 0.0)
    sink = RecordFolder(tmp_path / "rows")
    for index in range(3):
        sink.write(row(index))
    sink.close()
    assert [len(read(path)) for path in files(tmp_path / "rows")] == [1, 1, 1]


def test_the_oldest_go_and_nothing_else(tmp_path: Path) -> None:
    """Files of a run before count, those of a clock that was set back too; what is called nearly alike is somebody else's."""
    folder, keep = tmp_path / "rows", 8000
    folder.mkdir()
    theirs = ["rows.csv", "rows-00000001.csv", "rows-00000001-20260101T000000Z.csv.bak", "rows-00000002-old.csv"]
    (folder / "rows-00000007-29991231T000000Z.partial.csv").write_text("x" * 3000)
    sink = RecordFolder(folder)
    for name in theirs:
        (folder / name).write_text("theirs" * 1000)
    (folder / "rows-00000001-20260101T000000Z.csv").mkdir()  # a folder
    sink.bound(keep)
    for index in range(200):
        sink.write(row(index))
        assert sum(path.stat().st_size for path in files(folder) if path.is_file()) <= keep
    sink.close()
    assert not (folder / "rows-00000007-29991231T000000Z.partial.csv").exists()
    kept = [int(each["index"]) for path in files(folder) if path.is_file() for each in read(path)]
    assert kept == list(range(kept[0], 200)) and 0 < kept[0] < 190
    assert all((folder / name).read_text() == "theirs" * 1000 for name in theirs)
    numbers = [ROWS.number(path.name) for path in files(folder) if path.is_file()]
    assert min(number or 0 for number in numbers) > 8


def test_a_disk_that_others_fill_takes_the_oldest_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, others = tmp_path / "rows", 0
    monkeypatch.setattr(lines, "SEGMENT_BYTES", 2000)
    room = 10**6 + 20_000

    def free(at: Path) -> int:
        return room - others - sum(path.stat().st_size for path in files(at))

    monkeypatch.setattr(segments, "free_bytes", free)
    sink = RecordFolder(folder)
    sink.bound(8 * 10**6)  # of which a file's share, 1 MB, is to stay free
    for index in range(100):
        others = 12_000 if index >= 60 else 0
        sink.write(row(index))
        assert free(folder) >= 10**6 or len(files(folder)) == 1
    sink.close()
    kept = indices(folder)
    assert kept == list(range(kept[0], 100)) and kept[0] > 30


@pytest.mark.parametrize("filled", [60, 90])
def test_a_disk_that_was_filled_meanwhile_takes_the_oldest_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: int
) -> None:
    """To the last byte, while the run was down or its camera away: it ended at each start, until nobody began it any more."""
    folder, others, put = tmp_path / "rows", 0, LineFile._put

    def free(at: Path) -> int:
        return 60_000 - others - sum(path.stat().st_size for path in files(at))

    def put_where_it_fits(file: LineFile, text: str) -> None:
        if len(text) > free(folder):
            raise RunError(f"cannot write on to {file.path} (No space left on device)")
        put(file, text)

    monkeypatch.setattr(segments, "free_bytes", free)
    monkeypatch.setattr(LineFile, "_put", put_where_it_fits)
    for begun in (0, 60):
        sink = RecordFolder(folder)
        sink.bound(8 * 1000)
        for index in range(begun, begun + 60):
            others += free(folder) if index == filled else 0
            sink.write(row(index))
        sink.close()
    kept = indices(folder)
    assert kept == list(range(kept[0], 120)) and len(kept) > 20


def test_a_disk_that_shows_later_what_was_removed_does_not_take_all_that_is_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Btrfs does: the whole record went within a frame. After a while it counts as what it shows."""
    folder = tmp_path / "rows"
    monkeypatch.setattr(lines, "SEGMENT_BYTES", 2000)
    shown = 10**9
    monkeypatch.setattr(segments, "free_bytes", lambda at: shown)
    sink = RecordFolder(folder)
    sink.bound(8 * 10**5)
    for index in range(120):
        sink.write(row(index))
    shown, before = 10**5 - 3000, len(files(folder))
    for index in range(120, 125):
        sink.write(row(index))
    assert len(files(folder)) == before - 2 > 3
    monkeypatch.setattr(segments, "SHOWN_S", 0.0)
    sink._segments._shown_s = 0.0
    for index in range(125, 145):
        sink.write(row(index))
    assert len(files(folder)) == 1
    sink.close()


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from edgeprune.runtime.sinks.record import RecordFolder
from tests.runtime.rows import row
from edgeprune.runtime.sinks import lines
lines.SEGMENT_BYTES = 3000
sink = RecordFolder(Path({folder!r}))
for index in range(10**9):
    sink.write(row(index))
    print(index, flush=True)
"""


def test_a_killed_run_loses_no_row_and_the_next_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    for begun in range(2):
        before = len(indices(folder)) if begun else 0
        left = {path: path.read_bytes() for path in files(folder)} if begun else {}
        script = CHILD.format(root=str(ROOT), folder=str(folder))
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert child.stdout
        for _ in range(40):
            child.stdout.readline()
        child.kill()
        written = 40 + len(child.stdout.read().splitlines())
        child.wait()
        found = indices(folder)[before:]
        assert found == list(range(len(found))) and written <= len(found) <= written + 1
        assert all(path.read_bytes() == content for path, content in left.items())
    # between two files there is none that is being written
    assert len([path for path in files(folder) if ".partial" in path.name]) <= 2
    assert record_output(str(folder)).endless  # without a slash too, now that it is there


def test_what_is_written_is_on_the_disk_after_a_second_and_at_the_end_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    monkeypatch.setattr(segments, "SYNC_S", 0.02)
    monkeypatch.setattr(lines, "SEGMENT_BYTES", 1000)
    sink = RecordFolder(tmp_path / "rows")
    sink.write(row(0))
    deadline = time.monotonic() + 10
    while not any(".partial" in name for name in synced) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert any(".partial" in name for name in synced)
    for index in range(1, 12):
        sink.write(row(index))
    sink.close()
    assert {path.name for path in files(tmp_path / "rows")} <= set(synced) and synced[-1] == "rows"
    assert len(os.listdir("/proc/self/fd")) < 100


def test_a_disk_that_refuses_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = RecordFolder(tmp_path / "rows")
    sink.write(row(0))

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    sink._segments._syncing._sync()
    with pytest.raises(RunError, match=r"cannot put what was written to .*rows on the disk \(Input/output error\)"):
        sink.write(row(1))
    monkeypatch.undo()
    sink.abandon()
    assert len(indices(tmp_path / "rows")) == 2 and ".partial" in files(tmp_path / "rows")[0].name


def test_folders_that_are_refused_and_what_is_left_of_a_run_without_a_frame(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").touch()
    with pytest.raises(InputError, match=r"rows.csv is a file; leave the slash out, or name a new folder"):
        record_output(f"{tmp_path}/rows.csv/")
    with pytest.raises(
        InputError, match=r"is a folder; name a file, such as .*/rows.csv, or a new folder, such as .*rows/"
    ):
        record_output(f"{tmp_path}/")
    with pytest.raises(InputError, match="cannot write the record to"):
        Outputs({"record": f"{tmp_path}/rows.csv/rows/"}, Scripted(0))
    outputs = Outputs({"record": f"{tmp_path}/new/"}, Scripted(0))
    outputs.discard()
    assert outputs.paths()["record"] is None and [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
