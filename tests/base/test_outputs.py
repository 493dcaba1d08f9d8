"""Outputs that would destroy something."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.base.outputs import LOCK_INSIDE, locked

HOLD = """
import sys
from pathlib import Path
from edgeprune.base.outputs import locked
sys.argv = ["edgeprune", "run", "--camera", "rtsp://me:secret@host"]
with locked(Path({path!r}), "results", inside={inside}):
    print("held", flush=True)
    sys.stdin.read()
"""


Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """hold(path), hold(path, inside=True): another process that locks it until its input is closed."""
    processes = []

    def start(path: Path, inside: bool = False) -> "subprocess.Popen[str]":
        script = HOLD.format(path=str(path), inside=inside)
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout and process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_lock_names_its_owner(tmp_path: Path, hold: Hold) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    process = hold(tmp_path / "out.mp4")
    for path in (tmp_path / "out.mp4", tmp_path / "link" / "out.mp4"):
        with pytest.raises(InputError) as error, locked(path, "results"):
            pass
        assert f"is being written by `edgeprune run` (process {process.pid} on " in str(error.value)
        assert "wait for its end, or name another output" in str(error.value) and "secret" not in str(error.value)
    with locked(tmp_path / "other.mp4", "results"):
        pass
    process.communicate()  # its ordinary end
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_dead_owner_is_noticed(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path / "folder")
    process.kill()
    process.wait()
    assert (tmp_path / ".folder.lock").exists()
    with locked(tmp_path / "folder", "results"):
        with pytest.raises(InputError, match="by this very process"), locked(tmp_path / "folder", "results"):
            pass
        assert str(os.getpid()) in (tmp_path / ".folder.lock").read_text()
    assert list(tmp_path.iterdir()) == []


FORK = """
import os, sys, time
from pathlib import Path
from edgeprune.base.outputs import locked
with locked(Path({path!r}), "results"):
    worker = os.fork()
    if worker == 0:
        time.sleep(30)
    os.write(1, str(worker).encode())
    os.kill(os.getpid(), 9)
"""


def test_a_forked_worker_does_not_keep_a_lock(tmp_path: Path) -> None:
    """A data loader's worker outlives a process that was killed by a moment."""
    told = tmp_path / "told"
    with told.open("wb") as file:
        subprocess.run([sys.executable, "-c", FORK.format(path=str(tmp_path / "out"))], stdout=file, timeout=600)
    worker = int(told.read_text())
    try:
        os.kill(worker, 0)  # it is there
        with locked(tmp_path / "out", "results"):
            pass
    finally:
        os.kill(worker, 9)


def test_a_lock_whose_folder_was_emptied_leaves_the_next_ones_alone(tmp_path: Path, hold: Hold) -> None:
    out = tmp_path / "out"
    with locked(out / "rows.csv", "results"):
        shutil.rmtree(out)
        process = hold(out / "rows.csv")  # a second run, in a folder of the same name
    with pytest.raises(InputError, match=f"process {process.pid} on"), locked(out / "rows.csv", "results"):
        pass
    process.communicate()
    with locked(out / "rows.csv", "results"):
        shutil.rmtree(out)
        out.touch()
    assert out.is_file()


def test_a_lock_on_a_full_disk_has_no_name_and_is_one(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # writing fails as on a full disk
    try:
        with locked(tmp_path / "rows.csv", "results"):
            assert (tmp_path / ".rows.csv.lock").stat().st_size == 0  # reading it here would let go of the lock
            other = subprocess.run(
                [sys.executable, "-c", HOLD.format(path=str(tmp_path / "rows.csv"), inside=False)],
                capture_output=True,
                text=True,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "rows.csv is being written by another process; wait for its end" in other.stderr
    assert list(tmp_path.iterdir()) == []


def test_folders_made_for_a_lock_alone_go_with_it(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b" / "out.mp4", "results"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b" / "out.mp4", "results"):
        (tmp_path / "a" / "b" / "out.mp4").touch()
    assert (tmp_path / "a" / "b" / "out.mp4").exists()


@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_what_has_a_locks_name_and_is_none_is_not_written_to(tmp_path: Path, kind: str) -> None:
    precious, beside = tmp_path / "precious", tmp_path / ".rows.csv.lock"
    (precious if kind == "link" else beside if kind == "file" else tmp_path / "other").write_text("precious")
    if kind == "link":
        beside.symlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(beside)
    with pytest.raises(InputError, match=r"\.rows\.csv\.lock"), locked(tmp_path / "rows.csv", "record"):
        raise AssertionError
    assert os.path.lexists(beside) and (kind == "pipe" or beside.read_text() == "precious")


# --- the lock of a folder to which all is written ---


def test_a_lock_inside_a_folder_leaves_what_is_around_it_alone(tmp_path: Path, hold: Hold) -> None:
    rows = tmp_path / "out" / "rows"
    rows.mkdir(parents=True)
    os.utime(rows.parent, (0, 0))
    process = hold(rows, inside=True)
    assert [path.name for path in rows.iterdir()] == [LOCK_INSIDE]
    with pytest.raises(InputError, match=f"process {process.pid} on"), locked(rows, "results", inside=True):
        pass
    process.communicate()
    assert rows.is_dir() and not list(rows.iterdir()) and rows.parent.stat().st_mtime == 0


def test_a_folder_that_was_made_for_its_lock_goes_with_it_where_nothing_is_in_it(tmp_path: Path) -> None:
    rows = tmp_path / "a" / "rows"
    with locked(rows, "results", inside=True):
        assert (rows / LOCK_INSIDE).is_file()
        with pytest.raises(InputError, match="by this very process"), locked(rows, "results", inside=True):
            pass
    assert not list(tmp_path.iterdir())
    with locked(rows, "results", inside=True):
        (rows / "rows-1.csv").touch()
    assert [path.name for path in rows.iterdir()] == ["rows-1.csv"]


def test_a_lock_of_an_earlier_version_beside_a_folder_counts(tmp_path: Path, hold: Hold) -> None:
    """It is held while a run of that version goes on; what a killed one left is none."""
    rows = tmp_path / "rows"
    rows.mkdir()
    process = hold(rows)  # as they all were
    (tmp_path / ".rows.lock").chmod(0o444)
    tmp_path.chmod(0o500)  # as to a service, whose unit names the folder alone
    try:
        with pytest.raises(InputError, match=f"process {process.pid} on"), locked(rows, "results", inside=True):
            pass
        assert not list(rows.iterdir())
        process.kill()
        process.wait()
        assert (tmp_path / ".rows.lock").exists()
        with locked(rows, "results", inside=True):
            assert (rows / LOCK_INSIDE).is_file()
    finally:
        tmp_path.chmod(0o700)


def test_a_lock_inside_a_folder_counts_for_one_who_locks_beside_it(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path / "rows", inside=True)
    with pytest.raises(InputError, match=f"process {process.pid} on"), locked(tmp_path / "rows", "results"):
        pass
    process.communicate()
    mine = locked(tmp_path / "rows", "results", inside=True)
    with mine, pytest.raises(InputError, match="by this very process"), locked(tmp_path / "rows", "results"):
        pass
    with locked(tmp_path / "rows", "results"):
        pass
    assert not list(tmp_path.iterdir())


def test_what_lies_beside_a_folder_and_is_no_lock_keeps_nobody_away(tmp_path: Path) -> None:
    beside = tmp_path / ".rows.lock"
    os.mkfifo(beside)  # it is not waited for
    with locked(tmp_path / "rows", "results", inside=True):
        pass
    beside.unlink()
    beside.write_text("precious")
    with locked(tmp_path / "rows", "results", inside=True):
        pass
    assert beside.read_text() == "precious"
