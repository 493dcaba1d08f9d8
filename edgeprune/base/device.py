"""What device this is, as far as it says so itself (the board's name, its release), and what its user set for it."""

import os
import re
from pathlib import Path

from edgeprune.base.errors import InputError

MODEL = "proc/device-tree/model"
RELEASE = "etc/nv_tegra_release"
# JetPack by the release of Jetson Linux (L4T) that it is made of, as NVIDIA's JetPack archive and release notes pair them. A
# release that stands in neither has no name here: its number is said.
JETPACKS = {
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.5.0": "6.2.2",
    "36.5.2": "6.2.3",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}
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


def l4t_release(root: Path = Path("/")) -> str | None:
    """The release of Jetson Linux, as `36.4.3`; None on a machine that is no Jetson. One that can't be made out is given as
    it stands in its file."""
    try:
        line = (root / RELEASE).read_text(errors="replace").partition("\n")[0]
    except OSError:
        return None
    found = re.search(r"R(\d+) \(release\), REVISION: (\d+)\.(\d+)", line)
    return ".".join(found.groups()) if found else line.strip()


def is_jetson(root: Path = Path("/")) -> bool:
    return "Jetson" in (board_name(root) or "") or (root / RELEASE).is_file()


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
