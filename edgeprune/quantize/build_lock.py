"""The lock of a C++ extension's build folder: PyTorch makes a file `lock` there and waits for as long as one is there
(`torch.utils.file_baton`), so one that a killed process left would be waited for without an end and without a word."""

import logging
import os
import time
from pathlib import Path

from edgeprune.base.errors import RunError
from edgeprune.base.paths import real_path

logger = logging.getLogger(__name__)

OLD_SECONDS = 120.0  # a build takes about a minute on two cores
POLL_SECONDS = 0.2


def wait_for_lock(folder: Path, limit_seconds: float) -> None:
    """Returns when no lock is in the way. One that no process here holds is removed once it is old: a container that
    shares the folder may be building, but not for so long.

    Args:
        folder: where the extension is built.
        limit_seconds: how long a build that goes on is waited for.

    Raises:
        RunError: the build did not end in time, or the lock can't be removed.
    """
    lock, began, said = folder / "lock", time.monotonic(), False
    while (age := _age_seconds(lock)) is not None:
        holder = _holder(lock)
        if holder is None and age >= OLD_SECONDS:
            _remove(lock)
            logger.warning(f"removed {lock}, which a process that was killed left {age:.0f} s ago")
            return
        if not said and holder is not None:
            logger.info(
                f"process {holder} compiles NNCF's quantizers ({lock}); waits for it, {limit_seconds:.0f} s at most"
            )
        elif not said:
            logger.warning(
                f"{lock} is held by no process here: one was killed, or another container compiles NNCF's quantizers; waits "
                f"{OLD_SECONDS - age:.0f} s, then removes it (delete it to go on at once)"
            )
        said = True
        if time.monotonic() - began > limit_seconds:
            who = f"process {holder}" if holder is not None else "another container"
            raise RunError(
                f"{who} has not compiled NNCF's quantizers in {limit_seconds:.0f} s; end it, delete {lock}, run again"
            )
        time.sleep(POLL_SECONDS)


def _age_seconds(lock: Path) -> float | None:
    """Since it was made; None where there is none."""
    try:
        return max(0.0, time.time() - lock.stat().st_mtime)
    except OSError:
        return None


def _holder(lock: Path) -> int | None:
    """The process of this machine (and of this user) that has the file open: PyTorch keeps it open while it builds."""
    wanted = str(real_path(lock))
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(entry) == wanted:
                return int(entry.parts[2])
        except OSError:
            continue  # another user's, or it has just ended
    return None


def _remove(lock: Path) -> None:
    try:
        lock.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{lock} was left by a process that was killed and can't be removed ({error.strerror}); delete it, or set "
            "TORCH_EXTENSIONS_DIR to a folder of your own"
        ) from None
