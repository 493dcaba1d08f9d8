"""What device this is, as far as it says so itself (the board's name, its power mode), and what its user set for it."""

import os
import subprocess
from pathlib import Path

from edgeprune.errors import InputError

MODEL = "proc/device-tree/model"
GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
CACHE_VARIABLE = "EDGEPRUNE_CACHE"
WORKSPACE_VARIABLE, WORKSPACE_MB = "EDGEPRUNE_WORKSPACE_MB", 1024
MEMORY_VARIABLE = "EDGEPRUNE_MEMORY_MB"
TYPING_VARIABLE, TYPINGS = "EDGEPRUNE_TYPING", ("strong", "weak")


def board_name(root: Path = Path("/")) -> str | None:
    """As `NVIDIA Jetson Orin Nano Developer Kit`; None where there is no device tree, as on a PC. `root`: for tests."""
    try:
        return (root / MODEL).read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def power_mode(root: Path = Path("/")) -> str | None:
    """What `nvpmodel -q` says on a Jetson, the CPU's frequency governor elsewhere; None where neither tells."""
    try:
        asked = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=5)
        return " ".join(asked.stdout.split()) or None
    except (OSError, subprocess.TimeoutExpired):
        pass
    try:
        return f"governor {(root / GOVERNOR).read_text().strip()}"
    except OSError:
        return None


def cache_folder() -> Path:
    """Where a device keeps what it compiled: `$EDGEPRUNE_CACHE`, else `edgeprune` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeprune"


def workspace_mb() -> int:
    """How much scratch memory a compiled kernel may take: `$EDGEPRUNE_WORKSPACE_MB`, else 1024.

    Raises:
        InputError: the variable holds no positive whole number.
    """
    return _megabytes(WORKSPACE_VARIABLE) or WORKSPACE_MB


def memory_mb() -> int | None:
    """How much memory the compiled graphs of a bundle may take together: `$EDGEPRUNE_MEMORY_MB`; None where nothing is set.

    Raises:
        InputError: the variable holds no positive whole number.
    """
    return _megabytes(MEMORY_VARIABLE)


def _megabytes(variable: str) -> int | None:
    given = os.environ.get(variable)
    if not given:
        return None
    if not given.isdecimal() or int(given) == 0:
        raise InputError(f"{variable} is {given!r}; expected megabytes as a whole number, such as 512")
    return int(given)


def typing() -> str | None:
    """How TensorRT networks are to be typed: `$EDGEPRUNE_TYPING`, `strong` or `weak`; None where nothing is set.

    Raises:
        InputError: the variable holds something else.
    """
    given = os.environ.get(TYPING_VARIABLE) or None
    if given not in (None, *TYPINGS):
        raise InputError(f"{TYPING_VARIABLE} is {given!r}; expected {' or '.join(TYPINGS)}, or leave it unset")
    return given
