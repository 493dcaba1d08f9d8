"""The lock of a build folder: whose it is, and that a dead one is never waited for in silence."""

import os
from pathlib import Path

import pytest
from torch.utils.file_baton import FileBaton

from edgeprune.base.errors import RunError
from edgeprune.quantize import build_lock
from edgeprune.quantize.build_lock import OLD_SECONDS, wait_for_lock


def aged(lock: Path, seconds: float) -> Path:
    """A lock that nobody holds."""
    lock.unlink(missing_ok=True)
    lock.touch()
    when = lock.stat().st_mtime - seconds
    os.utime(lock, (when, when))
    return lock


def test_without_a_lock_nothing_is_said(tmp_path: Path, said: list[str]) -> None:
    wait_for_lock(tmp_path, 1.0)
    wait_for_lock(tmp_path / "nowhere", 1.0)
    assert said == []


def test_an_old_lock_that_nobody_holds_is_removed(tmp_path: Path, said: list[str]) -> None:
    lock = aged(tmp_path / "lock", OLD_SECONDS + 1)
    wait_for_lock(tmp_path, 1.0)
    assert not lock.exists() and len(said) == 1
    assert said[0].startswith(f"removed {lock}, which a process that was killed left")


def test_a_young_one_is_waited_for_with_a_word_until_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    lock, slept = aged(tmp_path / "lock", OLD_SECONDS - 30), list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        aged(lock, OLD_SECONDS + 1)

    monkeypatch.setattr(build_lock.time, "sleep", sleep)
    wait_for_lock(tmp_path, 1e9)
    assert not lock.exists() and len(slept) == 1 and len(said) == 2
    assert "held by no process here" in said[0] and "delete it to go on at once" in said[0]


def test_a_build_that_goes_on_is_named_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """PyTorch's own baton, held by this process, however old."""
    baton = FileBaton(str(tmp_path / "lock"))
    assert baton.try_acquire()
    os.utime(tmp_path / "lock", (0, 0))
    monkeypatch.setattr(build_lock.time, "sleep", lambda _: baton.release())
    wait_for_lock(tmp_path, 600.0)
    assert len(said) == 1 and said[0].startswith(f"process {os.getpid()} compiles NNCF's quantizers")


def test_a_build_that_hangs_is_named_with_what_to_type(tmp_path: Path) -> None:
    baton = FileBaton(str(tmp_path / "lock"))
    assert baton.try_acquire()
    with pytest.raises(
        RunError, match=rf"process {os.getpid()} has not compiled .* in 0 s; end it, delete {tmp_path}/lock"
    ):
        wait_for_lock(tmp_path, 0.0)
    baton.release()


def test_a_lock_that_cannot_be_removed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(tmp_path / "lock", OLD_SECONDS + 1)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(
        RunError, match="can't be removed .Permission denied.; delete it, or set TORCH_EXTENSIONS_DIR"
    ) as found:
        wait_for_lock(tmp_path, 1.0)
    assert "\n" not in str(found.value)
