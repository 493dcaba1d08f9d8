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
from edgeprune.base.outputs import locked, refuse_inputs, refuse_one_name

HOLD = """
import sys
from pathlib import Path
from edgeprune.base.outputs import locked
sys.argv = ["edgeprune", "run", "--camera", "rtsp://me:secret@host"]
with locked(Path({path!r}), "results"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold() -> Iterator[Callable[[Path], "subprocess.Popen[str]"]]:
    """hold(path): another process that locks it until its input is closed."""
    processes = []

    def start(path: Path) -> "subprocess.Popen[str]":
        script = HOLD.format(path=str(path))
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


def test_a_lock_names_its_owner(tmp_path: Path, hold: Callable[[Path], "subprocess.Popen[str]"]) -> None:
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


def test_a_dead_owner_is_noticed(tmp_path: Path, hold: Callable[[Path], "subprocess.Popen[str]"]) -> None:
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


def test_a_lock_whose_folder_was_emptied_leaves_the_next_ones_alone(
    tmp_path: Path, hold: Callable[[Path], "subprocess.Popen[str]"]
) -> None:
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
                [sys.executable, "-c", HOLD.format(path=str(tmp_path / "rows.csv"))], capture_output=True, text=True
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


def test_an_output_that_is_an_input(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.touch()
    (tmp_path / "soft.mp4").symlink_to(film)
    (tmp_path / "hard.mp4").hardlink_to(film)
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("film.mp4", "soft.mp4", "hard.mp4", "folder/film.mp4", "x/../film.mp4"):
        with pytest.raises(InputError, match=r"is what is read from .*name another file"):
            refuse_inputs([tmp_path / name], [film])
        if "x" not in name:
            with pytest.raises(InputError, match="is what is read from"):
                refuse_inputs([film], [tmp_path / name])
    with pytest.raises(InputError, match="is among the files that are read from"):
        refuse_inputs([film], [], [tmp_path / "folder"])
    refuse_inputs([tmp_path / "new.mp4"], [film], [tmp_path])
    for name in ("film.mp4", "new.mp4", "folder/new/rows.csv"):
        with pytest.raises(InputError, match=r"lies in .*, which is read; name a place outside of it"):
            refuse_inputs([tmp_path / name], [tmp_path / "folder"])


def test_two_outputs_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    with pytest.raises(InputError, match="are one file; name two"):
        refuse_one_name([tmp_path / "a.csv", tmp_path / "folder" / "a.csv"])
    refuse_one_name([tmp_path / "a.csv", tmp_path / "a.mp4"])


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
