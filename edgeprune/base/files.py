"""Outputs appear under their final name only when whole: written beside it, then renamed."""

import errno
import glob
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.inputs import blocks_of, kind_of_file
from edgeprune.base.paths import real_path

PARTIAL = ".partial"
# nobody writes a file for as long: what is unfinished and older was left by a process that was killed
LEFT_S = 86_400.0


def partial_path(path: Path) -> Path:
    """Where an unfinished `path` lives: the same folder and extension, `.partial` before the extension."""
    return path.with_name(f"{path.stem}{PARTIAL}{path.suffix}")


def _hidden(path: Path) -> Path:
    """Where `write_atomic` keeps an unfinished `path`: a name that is nobody else's, while `x.partial.png` may be a picture."""
    return partial_path(path.with_name(f".{path.name}"))


def _own_hidden(path: Path) -> Path:
    """Likewise, of this writer alone, whoever else writes `path` meanwhile; removes what killed ones have left."""
    hidden = _hidden(path)
    for left in path.parent.glob(f"{glob.escape(hidden.stem)}-*{glob.escape(hidden.suffix)}"):
        with suppress(OSError):  # another has removed it
            if time.time() - left.stat().st_mtime > LEFT_S:
                left.unlink()
    return hidden.with_stem(f"{hidden.stem}-{secrets.token_hex(8)}")


def make_folder(folder: Path, what: str) -> Path:
    """Creates `folder` and proves that it can be written to.

    Raises:
        InputError: it can't be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # it never has a name, or a new one that no link waits under
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


def check_output(path: Path, what: str) -> None:
    """Refuses an output's name that is taken by something else than a file: a folder, a pipe, a device.

    A rename would replace even /dev/null. The name of the unfinished file is tried too: it is longer, and may be somebody
    else's, or a link to a file that is none of ours.

    Raises:
        InputError: such a name, or one that can't be written to.
        RunError: the disk is full.
    """
    _check(path, what, _hidden(path))


def _check(path: Path, what: str, partial: Path) -> None:
    """See `check_output`. `partial`: the name of the unfinished file."""
    try:
        kind = kind_of_file(path.stat().st_mode)
        if kind is not None:
            raise InputError(f"cannot write {what} to {path}: it is {kind}; name a file")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {what} to {path}: {_reason(error)}; give another name") from None
    new = not os.path.lexists(partial)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(partial, flags, 0o666)
        kind = kind_of_file(os.fstat(descriptor).st_mode)
        os.close(descriptor)
    except OSError as error:
        _refuse_full_disk(error, what, path)
        raise InputError(
            f"cannot write {what} to {path}: {partial.name}: {_reason(error)}; delete that file or give another name"
        ) from None
    if kind is not None:
        raise InputError(f"cannot write {what} to {path}: {partial.name} is {kind}; delete it or give another name")
    if new:
        partial.unlink()


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@contextmanager
def write_atomic(path: Path, what: str, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends well, removes it otherwise.

    The content is on the disk before it gets its name, so that a power cut leaves the old file or the new one.

    Args:
        shared: several processes may write it at a time, as a file of a cache: each by its own name, and the last one stays.

    Raises:
        InputError: the folder can't be written to, or `path` is a folder.
        RunError: the disk is full.
    """
    make_folder(path.parent, what)
    partial = _own_hidden(path) if shared else _hidden(path)
    _check(path, what, partial)
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
        InputError: the folder around can't be written to, or `folder` is a file or a mount point.
        RunError: the disk is full.
    """
    folder = real_path(folder)  # a link stays, and what it leads to is replaced
    make_folder(folder.parent, what)
    if folder.is_mount():
        raise InputError(f"cannot write {what} to {folder}: it is a mount point; name a folder in it")
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
    """Hex SHA-256 of a file. Raises InputError as `inputs.open_regular`."""
    digest = hashlib.sha256()
    for block in blocks_of(path, "file"):
        digest.update(block)
    return digest.hexdigest()
