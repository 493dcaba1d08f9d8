"""Outputs without an end: a folder of numbered files, one after the other, bounded on the disk in all.

A file is called by what it holds, its number and when it begins: `rows-00000012-20260131T235959Z.csv`. They are
ordered by the number, for a clock may be set back: a board without a battery for it begins in the past. The last one has a
partial name while it is written, and keeps it where the process is killed; the next run goes on with a new one.
"""

import os
import re
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.files import PARTIAL, make_folder
from edgeprune.base.outputs import LOCK_INSIDE
from edgeprune.runtime.sinks.sink import Output

KEEP_BYTES = 10**9  # that the files of one folder take in all, where nothing else is asked for
SHARE = 8  # one file has at most so much of that: the oldest is removed as a whole
FREE_BYTES = 64 * 10**6  # that are left on a disk which others fill: rather the oldest file goes than the run ends
SHOWN_S = 30.0  # that a disk may take to show what was removed: Btrfs frees it with its next commit
BLOCK_BYTES = 4096  # of most file systems
SYNC_S = 1.0  # between two times that what was written is put on the disk
LAST_SYNC_S = 10.0  # that the end of a run waits for a disk


class Kind(NamedTuple):
    """What the files of a folder are called: `rows-...csv`.

    Attributes:
        stem: what they begin with.
        suffixes: what they may end in.
        single: an example of a file that is no such folder.
        inner: where not files follow each other but folders, the suffixes of what is written in one; nothing else in it is
            touched.
    """

    stem: str
    suffixes: tuple[str, ...]
    single: str
    inner: tuple[str, ...] = ()

    def number(self, name: str) -> int | None:
        """Of a file of that name; None of one that is none of ours."""
        found = re.fullmatch(
            rf"{self.stem}-(\d{{8,12}})-\d{{8}}T\d{{6}}Z(?:\{PARTIAL}(?:-\d+)?)?(\.\w+)?", name, re.ASCII
        )
        return int(found[1]) if found and (found[2] or "") in self.suffixes else None

    def size(self, entry: "os.DirEntry[str]") -> int | None:
        """What it takes of the disk; None of what is no file, or folder, of ours, whatever its name is."""
        if not self.inner:
            return entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else None
        if not entry.is_dir(follow_symlinks=False):
            return None
        with os.scandir(entry.path) as files:
            return sum(on_disk(file.stat(follow_symlinks=False).st_size) for file in files if self._writes(file))

    def _writes(self, entry: "os.DirEntry[str]") -> bool:
        return entry.is_file(follow_symlinks=False) and entry.name.endswith(self.inner)

    def remove(self, path: Path) -> None:
        """Removes it; of a folder what is ours, and itself where nothing else is in it. Raises OSError."""
        if not self.inner:
            path.unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError), os.scandir(path) as files:
            for file in files:
                if self._writes(file):
                    os.unlink(file.path)
        with suppress(OSError):
            path.rmdir()


def folder_output(name: str, kind: Kind) -> Output:
    """The folder: a new or empty one, or one that has files of the kind already.

    Raises:
        InputError: it is a file, or there are other things in it alone.
    """
    folder = Path(name)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file; leave the slash out, or name a new folder")
        found = [each.name for each in folder.iterdir() if each.name != LOCK_INSIDE] if folder.is_dir() else []
    except OSError as error:
        raise InputError(f"cannot look into {folder}: {error.strerror}; name another folder") from error
    if found and not any(kind.number(each) is not None for each in found):
        raise InputError(
            f"{folder} is a folder; name a file, such as {folder / kind.single}, or a new folder, such as "
            f"{folder / kind.stem}/"
        )
    return Output(folder, folder=True, endless=True)


class Segments:
    """The files of such a folder. Of what lies in it no other file is touched.

    Attributes:
        folder: where they lie.
        keep_bytes: that they may take in all.

    Raises:
        InputError: the folder can't be written to.
    """

    def __init__(self, folder: Path, kind: Kind, suffix: str, what: str):
        self._new = not folder.exists()
        self.folder = make_folder(folder, what)
        self.keep_bytes = KEEP_BYTES
        self._kind, self._suffix = kind, suffix
        self._before: deque[tuple[Path, int]] = deque()  # those that are whole and their bytes, the oldest first
        self._bytes_before = 0
        self._removed_bytes = 0  # for which the disk does not show room yet
        self._free_before, self._shown_s = 0, 0.0  # what it showed then, and when it shows all of it
        self._syncing = _Syncing(folder)

    @property
    def there(self) -> bool:
        """Whether the folder has one of its files, whole or not."""
        try:
            return any(self._kind.number(each.name) is not None for each in self.folder.iterdir())
        except OSError:
            return False

    @property
    def segment_bytes(self) -> int:
        """That one file may have."""
        return self.keep_bytes // SHARE

    def next_path(self) -> Path:
        """The name of the next file; those that are there are looked through anew.

        Raises:
            RunError: the folder can't be read, or what was written before did not get onto the disk.
        """
        self._syncing.raise_failure()
        found: list[tuple[int, Path, int]] = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    number = self._kind.number(entry.name)
                    if number is not None and (size := self._kind.size(entry)) is not None:
                        found.append((number, Path(entry.path), size))
        except OSError as error:
            raise RunError(f"cannot look into {self.folder}: {error.strerror}; name another folder") from error
        found.sort()
        self._before = deque((path, size) for _, path, size in found)
        self._bytes_before = sum(size for _, size in self._before)
        number = found[-1][0] + 1 if found else 1
        began = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        return self.folder / f"{self._kind.stem}-{number:08d}-{began}{self._suffix}"

    def follow(self, descriptor: int) -> None:
        """From here on it is that open file whose content is put on the disk every SYNC_S; of the one before what is left."""
        self._syncing.follow(descriptor)

    def raise_failure(self) -> None:
        """Raises RunError where what was written did not get onto the disk."""
        self._syncing.raise_failure()

    def make_room(self, bytes_now: int) -> None:
        """Removes the oldest files until all of them, with the one that is written, fit, and the disk has some room.

        Args:
            bytes_now: that the file has that is written.

        Raises:
            RunError: one can't be removed.
        """
        lacking_bytes = self._lacking_bytes()
        while self._before and (self._bytes_before + bytes_now > self.keep_bytes or lacking_bytes > 0):
            path, size = self._before.popleft()
            try:
                self._kind.remove(path)
            except OSError as error:
                raise RunError(
                    f"cannot remove {path}, the oldest, to hold {self.keep_bytes} bytes ({error.strerror}); give more to "
                    "--keep, or another folder"
                ) from error
            self._bytes_before -= size
            self._removed_bytes += size if lacking_bytes > 0 else 0
            lacking_bytes -= size

    def _lacking_bytes(self) -> int:
        """What has to go where others have left too little of the disk; 0 or less: nothing. What was removed counts as free,
        though the disk may not show it yet: else all that is older would go for the room that one file gave."""
        free, now_s = free_bytes(self.folder), time.monotonic()
        if free > self._free_before + self._removed_bytes // 2 or now_s > self._shown_s:
            self._removed_bytes = 0
        if not self._removed_bytes:
            self._free_before, self._shown_s = free, now_s + SHOWN_S
        return min(FREE_BYTES, self.segment_bytes) - free - self._removed_bytes

    def close(self) -> None:
        """Puts the rest on the disk; a new folder in which nothing is goes. Raises RunError where the disk refuses."""
        self._syncing.close()
        if self._new:
            with suppress(OSError):  # not empty, as it should be
                self.folder.rmdir()
        self._syncing.raise_failure()


def on_disk(size: int) -> int:
    """What a small file takes, in whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def free_bytes(folder: Path) -> int:
    """What this user may still write there; much where that can't be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return KEEP_BYTES
    return found.f_bavail * found.f_frsize


class _Syncing:
    """Puts what is written on the disk, by a thread of its own: a slow card delays no frame."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._open: int | None = None
        self._ended: list[int] = []
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    def follow(self, descriptor: int | None) -> None:
        with self._lock:
            if self._open is not None:
                self._ended.append(self._open)
            self._open = None if descriptor is None else os.dup(descriptor)  # the writer may close its own any time

    def raise_failure(self) -> None:
        """Raises RunError once the disk has refused something."""
        if self._failure:
            failure, self._failure = self._failure, None
            raise RunError(
                f"cannot put what was written to {self._folder} on the disk ({failure.strerror}); check the disk"
            )

    def close(self) -> None:
        self.follow(None)
        self._stop.set()
        self._thread.join(LAST_SYNC_S)

    def _run(self) -> None:
        while not self._stop.wait(SYNC_S):
            self._sync()
        self._sync()

    def _sync(self) -> None:
        with self._lock:
            now, ended, self._ended = self._open, self._ended, []
        for descriptor in [*ended, *([] if now is None else [now])]:
            self._put(descriptor)
        for descriptor in ended:
            os.close(descriptor)
        if ended:  # and the names
            with suppress(OSError):
                folder = os.open(self._folder, os.O_RDONLY)
                self._put(folder)
                os.close(folder)

    def _put(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            self._failure = error
