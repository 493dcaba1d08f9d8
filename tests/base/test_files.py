"""Outputs appear whole or not at all."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from edgeprune.base import files
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.files import make_folder, partial_path, sha256, write_atomic, write_folder_atomic

FULL = [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Disk quota exceeded")]


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_partial_path_keeps_folder_and_extension() -> None:
    assert partial_path(Path("out/video.mp4")) == Path("out/video.partial.mp4")
    assert partial_path(Path("record")) == Path("record.partial")


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    with write_atomic(path, "the table") as partial:
        partial.write_text("a,b\n")
        assert not path.exists() and partial.parent == path.parent
    assert path.read_text() == "a,b\n" and listing(path.parent) == ["table.csv"]


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: order.append("fsync"))
    monkeypatch.setattr(files.os, "replace", lambda *_: order.append("replace"))
    with write_atomic(tmp_path / "a", "a") as partial:
        partial.touch()
    assert order == ["fsync", "replace"]


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(type(error)), write_atomic(path, "the table") as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old" and listing(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_a_run_error(tmp_path: Path, error: OSError) -> None:
    with (
        pytest.raises(RunError, match=r"no space left while writing the table to .*table.csv; free some"),
        write_atomic(tmp_path / "table.csv", "the table") as partial,
    ):
        partial.write_text("half")
        raise error
    assert listing(tmp_path) == []
    with (
        pytest.raises(RunError, match="no space left while writing bundle"),
        write_folder_atomic(tmp_path / "bundle", "bundle") as folder,
    ):
        (folder / "graph").write_text("half")
        raise error
    assert listing(tmp_path) == []


def test_other_errors_of_the_system_are_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), write_atomic(tmp_path / "a", "a"):
        raise FileNotFoundError(errno.ENOENT, "gone")


def test_a_folder_under_a_files_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(InputError, match="it is a folder; name a file"), write_atomic(tmp_path / "table.csv", "it"):
        raise AssertionError("never reached")


def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path) -> None:
    """Root may rename over /dev/null."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "null").symlink_to("/dev/null")
    for name, kind in (("fifo", "a pipe"), ("null", "a device")):
        with (
            pytest.raises(InputError, match=f"cannot write the table to .*{name}: it is {kind}; name a file"),
            write_atomic(tmp_path / name, "the table"),
        ):
            raise AssertionError("never reached")


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_that_is_too_long_with_or_without_partial(tmp_path: Path, length: int) -> None:
    with (
        pytest.raises(InputError, match=r"cannot write the table to .*File name too long; .*give another name"),
        write_atomic(tmp_path / ("x" * length), "the table"),
    ):
        raise AssertionError("never reached")
    assert listing(tmp_path) == []


def test_a_partial_that_is_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a shared folder: not to be opened, and not to be followed where it is a link."""
    (tmp_path / "precious").write_text("whole")
    partial = tmp_path / ".table.partial.csv"
    partial.symlink_to(tmp_path / "precious")
    with (
        pytest.raises(InputError, match=r"\.table.partial.csv: .*; delete that file or give another name"),
        write_atomic(tmp_path / "table.csv", "the table"),
    ):
        raise AssertionError("never reached")
    assert (tmp_path / "precious").read_text() == "whole"
    partial.unlink()
    opened = os.open

    def refuse(path: Path, *rest: int) -> int:
        if path == partial:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *rest)

    monkeypatch.setattr(files.os, "open", refuse)
    with (
        pytest.raises(InputError, match=r"\.table.partial.csv: Permission denied; delete that file"),
        write_atomic(tmp_path / "table.csv", "the table"),
    ):
        raise AssertionError("never reached")


@pytest.mark.parametrize("folder", ["file/below", "file", "/proc/edgeprune"])
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write the video to .*; name a folder that you may write to"):
        make_folder(tmp_path / folder, "the video")


def test_a_full_disk_is_seen_when_the_folder_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise FULL[0]

    monkeypatch.setattr(files.tempfile, "TemporaryFile", full)
    with pytest.raises(RunError, match="no space left"):
        make_folder(tmp_path, "the video")


def test_a_folder_is_tried_without_following_a_link_that_waits_there(tmp_path: Path) -> None:
    """In a folder that others may write to."""
    waiting = tmp_path / f".write-test-{os.getpid()}"
    waiting.symlink_to(tmp_path / "touched")
    make_folder(tmp_path, "x")
    assert os.listdir(tmp_path) == [waiting.name]


def test_making_a_folder_leaves_no_trace_in_it(tmp_path: Path) -> None:
    assert listing(make_folder(tmp_path / "a" / "b", "x")) == []


def test_a_whole_folder_replaces_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    for content in ("one", "two"):
        with write_folder_atomic(folder, "bundle") as partial:
            (partial / content).write_text(content)
        assert listing(folder) == [content]
    assert listing(tmp_path) == ["bundle"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(KeyboardInterrupt), write_folder_atomic(folder, "bundle") as partial:
        (partial / "new").touch()
        raise KeyboardInterrupt
    assert listing(folder) == ["old"] and listing(tmp_path) == ["bundle"]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "old").touch()
    rename = os.replace

    def fail_once(source: Path, to: Path) -> None:
        if source.name == ".bundle.partial":
            raise PermissionError(errno.EPERM, "no")
        rename(source, to)

    monkeypatch.setattr(files.os, "replace", fail_once)
    with pytest.raises(PermissionError), write_folder_atomic(folder, "bundle") as partial:
        (partial / "new").touch()
    assert listing(folder) == ["old"] and listing(tmp_path) == ["bundle"]


def test_a_run_killed_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    """What it leaves: the old folder under its other name, the new one unnamed."""
    for name in (".bundle.old", ".bundle.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / ".bundle.old" / "old").touch()
    with pytest.raises(KeyboardInterrupt), write_folder_atomic(tmp_path / "bundle", "bundle"):
        raise KeyboardInterrupt
    assert listing(tmp_path) == ["bundle"] and listing(tmp_path / "bundle") == ["old"]


def test_a_folder_behind_a_link_is_replaced_and_a_mount_point_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    for text in ("old", "new"):
        with write_folder_atomic(tmp_path / "link", "bundle") as partial:
            (partial / "file").write_text(text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "link"]
    assert (tmp_path / "link").is_symlink() and (tmp_path / "bundle" / "file").read_text() == "new"
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "bundle")
    with (
        pytest.raises(InputError, match="it is a mount point; name a folder in it"),
        write_folder_atomic(tmp_path / "bundle", "bundle"),
    ):
        raise AssertionError("nothing is begun")


def test_a_file_under_a_folders_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_text("precious")
    with (
        pytest.raises(InputError, match="it is a file; name a folder"),
        write_folder_atomic(tmp_path / "bundle", "bundle"),
    ):
        raise AssertionError("never reached")
    assert (tmp_path / "bundle").read_text() == "precious"


def test_sha256_of_more_than_a_block(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 17)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_what_only_looks_unfinished_stays(tmp_path: Path) -> None:
    """A picture that is called `x.partial.png` is not what `x.png` is written through."""
    own = tmp_path / "table.partial.csv"
    own.write_text("mine")
    with write_atomic(tmp_path / "table.csv", "table") as partial:
        partial.write_text("new")
    with pytest.raises(ValueError), write_atomic(tmp_path / "table.csv", "table") as partial:
        raise ValueError
    assert own.read_text() == "mine" and (tmp_path / "table.csv").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "table.partial.csv"]


def test_two_that_write_a_shared_file_at_a_time_do_so_whole(tmp_path: Path) -> None:
    """As two processes that fill the cache of a device; by one name each would rename, or remove, what the other writes."""
    path = tmp_path / "device.json"
    with write_atomic(path, "it", shared=True) as first:
        first.write_text("first")
        with write_atomic(path, "it", shared=True) as second:
            second.write_text("second")
        assert path.read_text() == "second" and first.read_text() == "first"
        with pytest.raises(ValueError), write_atomic(path, "it", shared=True):
            raise ValueError
        assert first.read_text() == "first" and first.name.startswith(".device.partial-")
    assert path.read_text() == "first" and listing(tmp_path) == ["device.json"]


def test_what_a_killed_writer_of_a_shared_file_left_goes_after_a_day(tmp_path: Path) -> None:
    names = (".device.partial-0123.json", ".device.partial-4567.json", ".devices.partial-0123.json")
    for name in names:
        (tmp_path / name).write_text("half")
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (0, 0))
    with write_atomic(tmp_path / "device.json", "it", shared=True) as partial:
        partial.write_text("whole")
    assert listing(tmp_path) == [*names[1:], "device.json"]
