"""Outputs that would destroy something: what a failed run kept, or what another process is writing (inputs: `owning.py`).

The rule of all verbs: a file that is there is replaced, at the end, by one that is whole, and that is said at the beginning;
a folder that an output has for itself is new or empty, or an earlier bundle where `build` writes one.
"""

import errno
import fcntl
import json
import logging
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from edgeprune.base.ending import at_stop
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.files import PARTIAL, make_folder, partial_path
from edgeprune.base.paths import real_path

logger = logging.getLogger(__name__)

LOCK_BYTES = 16  # enough of a lock to know it
LOCK_INSIDE = ".lock"  # of a folder to which all is written that an output writes


def refuse_remains(output: Path) -> None:
    """Refuses to write over what a failed run kept, or over what is no file.

    Raises:
        InputError: names what is there.
    """
    if output.name.split(PARTIAL)[0] != output.name and output.exists():
        raise InputError(f"{output} is what a run that failed has kept; name another file, or move it first")
    if output.exists() and not output.is_file() and not output.is_dir():
        raise InputError(f"{output} is neither a file nor a folder (a pipe or a device); name a file")


def with_suffix(path: Path, suffix: str, stem: str) -> Path:
    """The name to type for a file of that suffix where `path` has another or none; `stem` where it has no stem either.

    a/b.avi -> a/b.mp4; a/.mp4 (a hidden file without a suffix) -> a/overlay.mp4
    """
    own = path.stem.strip(".") if path.suffix or not path.name.startswith(".") else ""
    return path.parent / f"{own or stem}{suffix}"


def create_partial(path: Path, what: str) -> tuple[Path, FileIO]:
    """A new file for an unfinished `path`, unbuffered: `partial_path(path)`, numbered where runs before failed.

    Raises:
        InputError: the folder can't be written to, or the name can't be.
    """
    make_folder(path.parent, what)
    first = partial = partial_path(path)
    number = 1
    while True:
        try:
            return partial, partial.open("xb", buffering=0)
        except FileExistsError:
            _say_kept(first, number)
            number += 1
            partial = first.with_name(f"{first.stem}-{number}{first.suffix}")
        except OSError as error:
            raise InputError(f"cannot write {what} to {path}: {error.strerror}; name another file") from error


def _say_kept(first: Path, number: int) -> None:
    """Says once what a run that failed or was killed has left: that one could not."""
    if number == 1:
        logger.info(f"{first} is what an earlier run has left; it stays as it is")


class OutputRemoved(RunError):
    """What was written is gone."""


def finish_partial(partial: Path, file: FileIO, name: Path) -> None:
    """Closes what `create_partial` made and gives it `name`: its final one, or `partial` where it stays unfinished.

    Raises:
        RunError: another process put something where it has to go; it is left as `partial`.
        OutputRemoved: another process removed or replaced it.
    """
    try:
        there = _is_at(file, partial)
        file.close()
        if there:
            os.replace(partial, name)
    except OSError as error:
        raise RunError(f"cannot give {name} its name ({error.strerror}); move what is there, and rename it") from error
    if not there:
        raise OutputRemoved(f"{partial} was removed or moved by another process while it was written")


def refuse_full_folder(folder: Path) -> None:
    """Refuses a folder for an output that has it for itself where something is in it already: nothing is written over.
    One that can't be replaced by the finished one is refused as well.

    Raises:
        InputError: it holds something, is a link or a mount point, or can't be looked into.
    """
    try:
        if folder.is_symlink() or folder.is_mount():
            what = "a link" if folder.is_symlink() else "a mount point"
            raise InputError(f"{folder} is {what}; name a folder in it, such as {folder / 'new'}, or another one")
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty; name a new folder, or move what is in it")
    except OSError as error:
        raise InputError(f"cannot look into {folder}: {error.strerror}; name another folder") from error


def create_partial_folder(path: Path, what: str) -> Path:
    """A new folder for an unfinished `path`: `partial_path(path)`, numbered where runs before failed.

    Raises:
        InputError: the folder around can't be written to, or the name can't be.
    """
    make_folder(path.parent, what)
    first = partial = partial_path(path)
    number = 1
    while True:
        try:
            partial.mkdir()
            return partial
        except FileExistsError:
            _say_kept(first, number)
            number += 1
            partial = first.with_name(f"{first.name}-{number}")
        except OSError as error:
            raise InputError(f"cannot write {what} to {path}: {error.strerror}; name another folder") from error


def finish_partial_folder(partial: Path, name: Path) -> None:
    """Gives what `create_partial_folder` made its final name, where nothing but an empty folder is.

    Raises:
        RunError: something has taken the name; it is left as `partial`.
        OutputRemoved: another process removed it.
    """
    if not partial.is_dir():
        raise OutputRemoved(f"{partial} was removed or moved by another process while it was written")
    try:
        os.replace(partial, name)
    except OSError as error:
        raise RunError(f"cannot give {name} its name ({error.strerror}); move what is there, and rename it") from error


_held: set[Path] = set()  # by this process: a second lock of its own would not be noticed by the kernel


@contextmanager
def locked(path: Path, what: str, inside: bool = False) -> Iterator[None]:
    """Inside, no other process that locks it too writes `path` (a file or a folder).

    The lock is the kernel's (a POSIX record lock on `.<name>.lock` beside it): with its owner's death it is gone, even
    where the file stays. A worker that was forked does not hold it.

    Args:
        inside: it is a folder, which is made where it is not there, and the lock lies in it (LOCK_INSIDE): nothing is written
            around it. Wherever ours lies, a lock at the other place counts, too: earlier versions know none inside.

    Raises:
        InputError: another process holds it; names that one. Or the folder around, or it, can't be written to.
    """
    path = real_path(path)
    lock, other = path.parent / f".{path.name}.lock", path / LOCK_INSIDE
    if inside:
        lock, other = other, lock
    new = [folder for folder in lock.parents if not folder.exists()]  # the deepest first
    make_folder(lock.parent, what)
    if not _held.isdisjoint({lock, other}):
        raise InputError(f"{path} is being written by this very process; name another output")
    file = _own(lock, path)
    _held.add(lock)
    try:
        _refuse_held(other, path)
        with at_stop(lambda: _remove(file, lock)):
            yield
    finally:
        _held.discard(lock)
        _remove(file, lock)  # before it is let go: a lock on a file without a name is worth nothing
        file.close()
        with suppress(OSError):  # not empty: something was written
            for folder in new:
                folder.rmdir()


def _refuse_held(lock: Path, path: Path) -> None:
    """Raises InputError where another process holds a lock that we do not take. It is read alone: the folder that it lies in
    may be read-only to this process."""
    try:
        file = FileIO(os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "r")
    except OSError:  # there is none
        return
    with file:
        if _may_be_a_lock(file):
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise _is_written(path, file) from None


def _is_written(path: Path, file: FileIO) -> InputError:
    """By the owner of a lock."""
    return InputError(f"{path} is being written by {_owner(file)}; wait for its end, or name another output")


def _own(lock: Path, path: Path) -> FileIO:
    """The lock's file, open and locked, with our name in it."""
    while True:
        try:
            file = FileIO(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644), "r+")
        except OSError as error:
            raise InputError(f"cannot write to {path}: {lock}: {error.strerror}; name another output") from error
        if not _may_be_a_lock(file):
            file.close()
            raise InputError(
                f"cannot write to {path}: {lock} is there and is no lock of ours; move it, or name another output"
            )
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            with file:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise InputError(
                        f"cannot lock {path} ({error.strerror}); name an output on a disk of this machine"
                    ) from error
                raise _is_written(path, file) from None
        if _is_at(file, lock):
            break
        file.close()  # its last owner has just removed it
    about = {"pid": os.getpid(), "host": socket.gethostname(), "command": _command(), "since": time.time()}
    with suppress(OSError):  # it is a lock without a name too; a full disk is said by what is written next
        file.truncate(0)
        file.write(json.dumps(about).encode())
    return file


def _remove(file: FileIO, lock: Path) -> None:
    """Removes our lock; where somebody emptied the folder, what lies there now may be another's."""
    with suppress(OSError):
        if _is_at(file, lock):
            lock.unlink()


def _may_be_a_lock(file: FileIO) -> bool:
    """Whether a file is a lock, or an empty one whose owner has not written its name yet. Somebody else's is not written to."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return False
    content = os.pread(file.fileno(), LOCK_BYTES, 0)
    return not content or content.startswith(b'{"pid":')


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _command() -> str:
    """`edgeprune run`: the verb alone, as a camera's password may stand among the options."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])


def _owner(file: FileIO) -> str:
    """`edgeprune run (process 4711 on jetson-3, since 14:02:11)`."""
    try:
        about = json.loads(file.read() or b"{}")
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about["since"]))
        return f"`{about['command']}` (process {about['pid']} on {about['host']}, since {since})"
    except (ValueError, KeyError, TypeError, OSError):  # it is writing its name just now
        return "another process"
