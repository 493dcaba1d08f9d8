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
MOST_MB = 1 << 20  # a terabyte: more than any device has
TYPING_VARIABLE, TYPINGS = "EDGEPRUNE_TYPING", ("strong", "weak")
MEGAPIXELS_VARIABLE, MEGAPIXELS = "EDGEPRUNE_MEGAPIXELS", 64
MOST_MEGAPIXELS = 10_000  # 30 GB as RGB


def board_name(root: Path = Path("/")) -> str | None:
    """The board's name, such as `NVIDIA Jetson Orin Nano Developer Kit`; None where there is no device tree, as on a PC.
    `root`: for tests."""
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
    """Where a device keeps what it compiled: `$EDGEPRUNE_CACHE`, else `edgeprune` in the user's cache folder.

    Raises:
        InputError: the variable names what is no folder, or the user has no home.
    """
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        if os.path.exists(given) and not os.path.isdir(given):
            raise InputError(f"{CACHE_VARIABLE} is {given!r}, which is no folder; name one, or leave it unset")
        return Path(given)
    # a relative one is to be ignored, says the XDG Base Directory Specification (0.8)
    if (shared := Path(os.environ.get("XDG_CACHE_HOME") or "")).is_absolute():
        return shared / "edgeprune"
    try:
        return Path.home() / ".cache" / "edgeprune"
    except RuntimeError:  # a user without a line in /etc/passwd, as containers and units have
        raise InputError(
            f"this user has no home folder; set {CACHE_VARIABLE} to a folder for what is compiled"
        ) from None


def workspace_mb() -> int:
    """How much scratch memory a compiled kernel may take: `$EDGEPRUNE_WORKSPACE_MB`, else 1024.

    Raises:
        InputError: the variable holds no whole number of megabytes, or more than any device has.
    """
    return _megabytes(WORKSPACE_VARIABLE) or WORKSPACE_MB


def memory_mb() -> int | None:
    """How much memory the compiled graphs of a bundle may take together: `$EDGEPRUNE_MEMORY_MB`; None where nothing is set.

    Raises:
        InputError: the variable holds no whole number of megabytes, or more than any device has.
    """
    return _megabytes(MEMORY_VARIABLE)


def _megabytes(variable: str) -> int | None:
    given = os.environ.get(variable)
    if not given:
        return None
    whole = given.isascii() and given.isdecimal() and len(given) <= len(str(MOST_MB))  # thousands of digits are no int
    if not whole or not 1 <= int(given) <= MOST_MB:
        raise InputError(
            f"{variable} is {_short(given)}; expected megabytes as a whole number from 1 to {MOST_MB}, such as 512"
        )
    return int(given)


def _short(given: str) -> str:
    return repr(given[:40]) + (f" and {len(given) - 40} characters more" if len(given) > 40 else "")


def typing() -> str | None:
    """How TensorRT networks are to be typed: `$EDGEPRUNE_TYPING`, `strong` or `weak`; None where nothing is set.

    Raises:
        InputError: the variable holds something else.
    """
    given = os.environ.get(TYPING_VARIABLE) or None
    if given not in (None, *TYPINGS):
        raise InputError(f"{TYPING_VARIABLE} is {_short(given)}; expected {' or '.join(TYPINGS)}, or leave it unset")
    return given


def most_megapixels() -> float:
    """How large an image is read: 64 megapixels, or what `$EDGEPRUNE_MEGAPIXELS` says.

    Raises:
        InputError: it says no number of megapixels, or more than an image has.
    """
    given = os.environ.get(MEGAPIXELS_VARIABLE)
    if not given:
        return MEGAPIXELS
    try:
        limit = float(given) if len(given) <= 20 else 0.0
    except ValueError:
        limit = 0.0
    if not 0 < limit <= MOST_MEGAPIXELS:
        raise InputError(
            f"{MEGAPIXELS_VARIABLE} is {_short(given)}; expected megapixels up to {MOST_MEGAPIXELS}, such as {MEGAPIXELS}"
        )
    return limit


def check_environment() -> None:
    """Reads every variable that is set to a value, whether or not this verb and this machine have a use for it: one that says
    nothing is told before minutes are spent under another value.

    Raises:
        InputError: names the variable.
    """
    for read in (workspace_mb, memory_mb, typing, most_megapixels):
        read()
