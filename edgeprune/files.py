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
        raise InputError(
            f"cannot write {what} to {folder}: {error.strerror}; name a folder that you may write to"
        ) from error
    return folder


@contextmanager
def write_atomic(path: Path, what: str) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well, removes it otherwise.

    Raises:
        InputError: the folder can't be written to.
        RunError: the disk is full.
    """
    make_folder(path.parent, what)
    partial = partial_path(path)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"no space left while writing {what} to {path}; free some and run again") from error
        raise


@contextmanager
def write_folder_atomic(folder: Path, what: str) -> Iterator[Path]:
    """Yields a temporary folder beside `folder`; it replaces `folder` when the block ends well, goes otherwise."""
    make_folder(folder.parent, what)
    partial = folder.with_name(f".{folder.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
            os.replace(partial, folder)
            shutil.rmtree(old)
        else:
            os.replace(partial, folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(f"no space left while writing {what} to {folder}; free some and run again") from error
        raise


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
