"""The files of a split, by stem: what is common to the names of an image and its label."""

import logging
import os
import re
import unicodedata
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.data.datasets import STEM

log = logging.getLogger("edgeprune")


def find_by_stem(place: Path, suffixes: tuple[str, ...], what: str, other: Path) -> dict[str, str]:
    """The files of a folder and all below it that end in `suffixes`, or those that fit a pattern with `{stem}`; links to
    folders are not followed.

    A stem is the path below the folder without the suffix (`aachen/0001`), or what stands for `{stem}`; as NFC, for macOS
    names files in NFD. Names that begin with a dot are left alone: macOS puts a `._x.jpg` beside an x.jpg.

    Args:
        what: `images` or `labels`, for messages.
        other: the other of the two, a folder or a pattern; where its folder lies below this one, it is passed over.

    Returns:
        by stem the path below the folder: text, for a set may have a million files.

    Raises:
        InputError: no such folder, no such file in it, or two files of one stem.
    """
    folder, fits = _pattern(place, suffixes, what)
    if not os.path.isdir(folder):
        raise InputError(f"{what} folder {folder} is not there; correct `{what}:` or `path:` in the data-set YAML")
    by_stem: dict[str, str] = {}
    for path in _files_below(folder, what, folder_of(other)):
        match = fits.fullmatch(nfc(path))
        if match is None:
            continue
        stem = match[1]
        if stem in by_stem:
            raise InputError(
                f"{folder / by_stem[stem]} and {os.path.basename(path)} share a stem; keep one of the two, or tell them apart "
                f"by a pattern such as `{what}: {folder.name}/{STEM}{os.path.splitext(path)[1]}`"
            )
        by_stem[stem] = path
    if not by_stem:
        expected = (
            f"that fit {place}"
            if STEM in str(place)
            else f"that end in {', '.join(suffixes)}, or a pattern with {STEM}"
        )
        raise InputError(f"no {what} in {folder}; expected files {expected}")
    return by_stem


def _pattern(place: Path, suffixes: tuple[str, ...], what: str) -> tuple[Path, re.Pattern[str]]:
    """The folder to search, and what a path below it has to look like."""
    if STEM not in str(place):
        return place, re.compile(f"(.+)(?:{'|'.join(map(re.escape, suffixes))})", re.IGNORECASE | re.DOTALL)
    if str(place).count(STEM) > 1:
        raise InputError(f"{what}: {place} has {STEM} more than once; write it once, it may stand for folders too")
    folder = folder_of(place)
    before, after = nfc(place.relative_to(folder).as_posix()).split(STEM)
    return folder, re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.DOTALL)


def folder_of(place: Path) -> Path:
    """A folder, or of a pattern the folder that is searched."""
    return next(path for path in (place, *place.parents) if STEM not in str(path))


def nfc(path: str) -> str:
    """As stems are spelled: macOS takes a name's accents apart, Linux keeps what it is given."""
    return unicodedata.normalize("NFC", path)


def _files_below(folder: Path, what: str, other: Path) -> list[str]:
    """Every file that is not hidden and not in the folder `other`, below `folder`, in the order of their paths."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{what} folder {error.filename} can't be read ({error.strerror}); let yourself read it")

    found: list[str] = []
    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and Path(here, name) != other]
        below = Path(here).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + name for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: path.split("/"))


def by_common_ending(labels: dict[str, str], stems: list[str], folder: Path) -> dict[str, str] | None:
    """The label of each stem, where label names are longer by one and the same ending (`f0.jpg`, `f0_mask.png`).

    Returns:
        None where no ending, or more than one, gives every stem a label.
    """
    endings = {label.removeprefix(stems[0]) for label in labels if label.startswith(stems[0])}
    fitting = [ending for ending in endings if all(stem + ending in labels for stem in stems)]
    if len(fitting) != 1:
        return None
    log.warning(
        f"labels are named as their images with {fitting[0]!r} behind, such as {folder / labels[stems[0] + fitting[0]]}"
    )
    return {stem: labels[stem + fitting[0]] for stem in stems}
