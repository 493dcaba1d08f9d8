"""Outputs appear under their final name only when whole: written beside it, then renamed."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeprune.errors import InputError, RunError

PARTIAL = ".partial"


def partial_path(path: Path) -> Path:
    """Where an unfinished `path` lives: the same folder and extension, `.partial` before the extension."""
    return path.with_name(f"{path.stem}{PARTIAL}{path.suffix}")


def make_folder(folder: Path, what: str) -> Path:
    """Creates `folder` and proves that it can be written to.

    Raises:
        InputError: it can't be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        _refuse_full_disk(error, what, folder)
        raise InputError(
            f"cannot write {what} to {folder}: {error.strerror}; name a folder that you may write to"
        ) from error
    return folder


def _refuse_full_disk(error: BaseException, what: str, path: Path) -> None:
    """Raises RunError where `error` says that the disk, or the user's share of it, is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise RunError(f"no space left while writing {what} to {path}; free some and run again") from error


@contextmanager
def write_atomic(path: Path, what: str) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well, removes it otherwise.

    The content is on the disk before it gets its name, so that a power cut leaves the old file or the new one.

    Raises:
        InputError: the folder can't be written to, or `path` is a folder.
        RunError: the disk is full.
    """
    make_folder(path.parent, what)
    if path.is_dir():
        raise InputError(f"cannot write {what} to {path}: it is a folder; name a file")
    partial = partial_path(path)
    try:
        yield partial
        _flush(partial)
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        _refuse_full_disk(error, what, path)
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def write_folder_atomic(folder: Path, what: str) -> Iterator[Path]:
    """Yields a temporary folder beside `folder`; it replaces `folder` when the block ends well, goes otherwise.

    The caller makes sure that `folder`, where it exists, holds nothing but an earlier version of the same.

    Raises:
        InputError: the folder around can't be written to, or `folder` is a file.
        RunError: the disk is full.
    """
    folder = folder.absolute()
    make_folder(folder.parent, what)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write {what} to {folder}: it is a file; name a folder")
    partial, old = folder.with_name(f".{folder.name}{PARTIAL}"), folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        os.replace(old, folder)  # a run was killed between the two renames below
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
            try:
                os.replace(partial, folder)
            except BaseException:
                os.replace(old, folder)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(partial, folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        _refuse_full_disk(error, what, folder)
        raise


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
