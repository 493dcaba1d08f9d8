"""Files that others wrote, opened so that none can hold us up: regular files alone, of a bounded size.

A pipe blocks until somebody writes, a device may never end, a sparse file of terabytes takes no disk, and some files of
/proc say that they are regular and block all the same. So a path is looked at before it is opened, and no more is read
than its size says.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgeprune.base.errors import InputError

TEXT_BYTES = 1 << 20  # of a YAML file or a manifest; the largest that edgeprune writes take some tens of kilobytes
# of a checkpoint, a graph, a file of weights: three times a ViT-L in FP32, and hashed within ten seconds
DATA_BYTES = 4 << 30
BLOCK = 1 << 20

KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def kind_of_file(mode: int) -> str | None:
    """What a path is by its `st_mode` where it is no regular file, as a person calls it; None for a regular file."""
    return next((name for test, name in KINDS.items() if test(mode)), None if stat.S_ISREG(mode) else "no regular file")


def look_at(path: Path, what: str, most: int = DATA_BYTES) -> int:
    """The size of a file that is about to be read, in bytes.

    Args:
        what: how a message calls it: "recipe", "checkpoint".
        most: bytes that it may have.

    Raises:
        InputError: it isn't there, is no regular file, or is larger.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, what, error) from None
    kind = kind_of_file(found.st_mode)
    if kind is not None:
        raise InputError(f"{what} {path} is {kind}; name a file")
    if found.st_size > most:
        raise InputError(f"{what} {path} has {found.st_size:,} bytes, at most {most:,} are read; check the path")
    return found.st_size


def _unreadable(path: Path, what: str, error: OSError | ValueError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{what} {path} is not there; check the path")
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return InputError(f"{what} {path} can't be read: {reason}")


@contextmanager
def open_regular(path: Path, what: str, most: int = DATA_BYTES) -> Iterator[tuple[BinaryIO, int]]:
    """A file that others wrote, and how many bytes of it to read. See `look_at`.

    Raises:
        InputError: as `look_at`, or it can't be opened or read.
    """
    size = look_at(path, what, most)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # it may have become a pipe by now
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(f"{what} {path} is no regular file; name a file")
            yield file, size
    except OSError as error:
        raise _unreadable(path, what, error) from None


def blocks_of(path: Path, what: str, most: int = DATA_BYTES) -> Iterator[bytes]:
    """The content of a file in blocks, as far as its size says. Raises as `open_regular`."""
    with open_regular(path, what, most) as (file, left):
        while left and (block := file.read(min(left, BLOCK))):
            left -= len(block)
            yield block


def read_text(path: Path, what: str, most: int = TEXT_BYTES) -> str:
    """The content of a small UTF-8 file.

    Raises:
        InputError: as `open_regular`, or it is no UTF-8.
    """
    try:
        return b"".join(blocks_of(path, what, most)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} can't be read: {error.reason} at byte {error.start}, expected UTF-8") from None
