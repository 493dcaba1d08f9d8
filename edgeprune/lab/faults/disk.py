"""A disk of its own for a trial: ext4 in a file, mounted by root, where nobody else sees it and nothing is left of it."""

import ctypes
import os
import subprocess
from contextlib import suppress
from pathlib import Path

MEGABYTES = 16
CLONE_NEWNS = 0x00020000  # unshare(2)


def own_mounts() -> None:
    """What this process mounts from here on, its threads' and its children's too, is seen by no other process and is gone with
    the last of them.

    Raises:
        OSError: not root, or without the right to.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _call("mount", "--make-rprivate", "/")


def _call(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{words[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")


class Disk:
    """Mounted at `folder`.

    Raises:
        OSError: it can't be made or mounted here.
    """

    def __init__(self, image: Path, folder: Path):
        self.folder = folder
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(MEGABYTES << 20)
        _call("mkfs.ext4", "-q", "-m", "0", "-J", "size=1", image)
        _call("mount", "-o", "loop,errors=remount-ro", image, folder)

    def fill(self) -> None:
        """Until nothing more can be written."""
        with (self.folder / "of-others").open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def fail(self) -> None:
        """As after an error of its hardware: the kernel ends the journal, and it is read-only from there on, whatever is open
        (ext4(5), `abort`)."""
        _call("mount", "-o", "remount,abort", self.folder)

    def close(self) -> None:
        with suppress(OSError):
            _call("umount", "-l", self.folder)
