"""Which images a split has, and the label of each: by stem, chosen by globs, a file list and a part of the whole.

Paths are kept as text below a folder, a hundred bytes each: a data set may have a million of them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from os.path import isfile, splitext
from pathlib import Path, PurePosixPath

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import read_text
from edgeprune.base.paths import real_path
from edgeprune.data.datasets import STEM
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.labels import LABEL_SUFFIXES
from edgeprune.data.layout import by_common_ending, find_by_stem, folder_of, log, nfc

LIST_BYTES = 256 << 20
# what is between the columns of a list's line, by whether it has a tab: then names may have spaces and commas
COLUMNS = {True: r"\s*\t\s*", False: r",\s*|\s+(?=\S+$)"}


@dataclass(frozen=True)
class Globs:
    """Over a stem, or its last part: it must match one of `include` and none of `exclude`."""

    include: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()

    def __str__(self) -> str:
        return f"include [{', '.join(self.include)}] and exclude [{', '.join(self.exclude)}]"

    def of(self, stems: Sequence[str]) -> list[str]:
        """The stems that are left, in their order."""
        return [stem for stem in stems if _matches(stem, self.include) and not _matches(stem, self.exclude)]


@dataclass(frozen=True)
class Choice:
    """Which of the images in its folders a split has.

    Attributes:
        own: the split's globs.
        part: from where to where, as shares of what these leave, in the order of their names.
        asked: the caller's globs, of what is then the split's: whoever asks for some of its frames does not move its ends.
        file_list: a text file that names the images.
    """

    own: Globs = field(default_factory=Globs)
    part: tuple[float, float] = (0.0, 1.0)
    asked: Globs = field(default_factory=Globs)
    file_list: Path | None = None

    def of(self, stems: list[str], images: Path) -> list[str]:
        """The stems that are chosen, in their order.

        Args:
            stems: of all images, ascending.
            images: where they are, for messages.

        Raises:
            InputError: none is.
        """
        chosen = _left(self.own, stems, images)
        if self.part != (0.0, 1.0):
            begin, end = (round(share * len(chosen)) for share in self.part)
            part = sorted(sorted(chosen, key=in_time)[begin:end])
            if not part:
                raise InputError(
                    f"part {list(self.part)} of the {len(chosen)} images in {images} is none; give it a larger share"
                )
            chosen = part
        return _left(self.asked, chosen, images)


def _left(globs: Globs, stems: list[str], images: Path) -> list[str]:
    if left := globs.of(stems):
        return left
    raise InputError(
        f"none of the split's {len(stems)} images in {images} is left by {globs}; the stems look like {min(stems)!r}"
    )


@dataclass(frozen=True)
class Pairs:
    """Images and labels side by side: `folders` are of the two, `images` and `labels` below them.

    Attributes:
        missing: what to say where images have no label; they are left out.
    """

    folders: tuple[Path, Path]
    names: list[str]
    images: list[str]
    labels: list[str]
    missing: str | None = field(default=None, kw_only=True)


def in_time(stem: str) -> list[tuple[int, int | str]]:
    """A key that sorts frames as they were filmed: frame 9 before frame 10, whatever zeros are before it."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", stem) if part]


def _matches(stem: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(stem, glob) or fnmatchcase(PurePosixPath(stem).name, glob) for glob in globs)


def pair_up(path: Path, images: Path, labels: Path, choice: Choice) -> Pairs:
    """The images that are chosen, with their labels, in the order of their stems.

    Where images and labels share a folder, images are what no label can be (`x.jpg` beside `x.png`).

    Args:
        path: the data set's folder, to which the paths of a file list of pairs are relative.
        images, labels: a folder, or a pattern with `{stem}`; see `layout.find_by_stem`.

    Raises:
        InputError: a folder is missing, or holds nothing that fits.
    """
    rows = read_list(choice.file_list) if choice.file_list else None
    if rows and len(rows[0]) == 2 and choice.file_list:
        return _listed_pairs(path, rows, choice)
    of_images = IMAGE_SUFFIXES
    if real_path(images) == real_path(labels):
        of_images = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in LABEL_SUFFIXES)
        log.warning(f"{images} holds images ({', '.join(of_images)}) and labels ({', '.join(LABEL_SUFFIXES)})")
    image_files = find_by_stem(images, of_images, "images", labels)
    label_files = find_by_stem(labels, LABEL_SUFFIXES, "labels", images)
    if rows and choice.file_list:
        image_files = listed(image_files, rows, choice.file_list, images)
    stems = choice.of(sorted(image_files), images)
    missing = [stem for stem in stems if stem not in label_files]
    if len(missing) == len(stems):  # some are named alike: then an ending is not what the others lack
        paired = by_common_ending(label_files, stems, folder_of(labels))
        label_files, missing = (paired, []) if paired else (label_files, missing)
    names = [stem for stem in stems if stem in label_files] if missing else stems
    return Pairs(
        (folder_of(images), folder_of(labels)),
        names,
        [image_files[stem] for stem in names],
        [label_files[stem] for stem in names],
        missing=_without_label(missing, len(stems), images, labels, label_files) if missing else None,
    )


def _without_label(missing: list[str], total: int, images: Path, labels: Path, label_files: dict[str, str]) -> str:
    expected = str(labels).replace(STEM, missing[0]) if STEM in str(labels) else f"{labels / missing[0]}.png"
    remedy = "add it, or leave the image out with `exclude`"
    if len(missing) == total:
        remedy = (
            f"labels have names such as {folder_of(labels) / min(label_files.values())}; say how they go together with their "
            f"images', such as `images: DIR/{STEM}_image.jpg` and `labels: DIR/{STEM}_mask.png`"
        )
    return f"{len(missing)} of {total} images in {images} have no label: expected {expected}; {remedy}"


# ------------------------------------------------------------------------------------------------ lists of a split


def read_list(path: Path) -> list[list[str]]:
    """The rows of a split's list, of one word (a stem, or an image) or of two (an image and its label).

    Raises:
        InputError: it can't be read, is empty, or has rows of several lengths.
    """
    lines = [line.strip() for line in read_text(path, "file list", LIST_BYTES).splitlines()]
    rows = [re.split(COLUMNS["\t" in line], line) for line in lines if line and not line.startswith("#")]
    if not rows:
        raise InputError(f"file list {path} is empty; expected a stem, or an image and its label, on each line")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]) or len(row) > 2:
            raise InputError(
                f"file list {path}: row {number} has {len(row)} columns, the first {len(rows[0])}; expected one (a stem) or "
                "two (an image and its label) throughout"
            )
    return rows


def listed(files: dict[str, str], rows: list[list[str]], file_list: Path, images: Path) -> dict[str, str]:
    """Those of `files` that a list names: by the stem, or by a path that ends as the stem does, with or without its suffix
    (`./images/val/0001.jpg` names val/0001, and 0001 where there is no val/0001).

    Raises:
        InputError: it names one that is not there, or by a name that several have.
    """
    if len(rows[0]) != 1:
        raise InputError(f"file list {file_list} has {len(rows[0])} columns; expected one, the stems of images")
    by_last: dict[str, list[str]] = {}
    for stem in files:
        by_last.setdefault(stem.rpartition("/")[2], []).append(stem)
    found: dict[str, str] = {}
    for word in (nfc(row[0]) for row in rows):
        bare = re.sub(rf"(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))})$", "", word, flags=re.IGNORECASE)
        ends = (end for path in (word, bare) for end in _ends(path) if end in files)
        named = next(ends, None) or _only(by_last, word, bare, file_list)
        if named is None:
            raise InputError(
                f"file list {file_list} names {word!r}, and {images} has no such image; its stems look like {min(files)!r}"
            )
        found[named] = files[named]
    return found


def _ends(path: str) -> list[str]:
    """What a path ends with, the longest first: a/b/c, b/c, c."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _only(by_last: dict[str, list[str]], word: str, bare: str, file_list: Path) -> str | None:
    """The one stem whose last part a list names. Raises InputError: several have it."""
    for path in (word, bare):
        stems = by_last.get(path.rpartition("/")[2], [])
        if len(stems) > 1:
            raise InputError(
                f"file list {file_list} names {word!r}, which may be {stems[0]!r} or {stems[1]!r}; write the path below the "
                "images folder"
            )
        if stems:
            return stems[0]
    return None


def _listed_pairs(path: Path, rows: list[list[str]], choice: Choice) -> Pairs:
    """Pairs whose files a list names, relative to the data set or to the list itself."""
    file_list = choice.file_list
    assert file_list is not None
    folder = next((each for each in (path, file_list.parent) if isfile(each / _inside(rows[0][0]))), None)
    if folder is None:
        raise InputError(
            f"file list {file_list} names {rows[0][0]!r}, which is neither in {path} nor beside the list; correct the list, or "
            "`path:` in the data-set YAML"
        )
    by_stem = {splitext(_inside(image))[0]: (image, label) for image, label in rows}
    names = choice.of(sorted(by_stem), folder)
    gone = {name: file for name in names for file in by_stem[name] if not isfile(folder / _inside(file))}
    missing = None
    if gone:
        missing = (
            f"{len(gone)} of {len(names)} pairs that {file_list} names are not there, such as "
            f"{folder / _inside(next(iter(gone.values())))}; add them, or take the rows out"
        )
        names = [name for name in names if name not in gone]
    images, labels = ([_inside(by_stem[name][column]) for name in names] for column in (0, 1))
    return Pairs((folder, folder), names, images, labels, missing=missing)


def _inside(word: str) -> str:
    """Lists write `/SegNet/CamVid/train/x.png` for what lies below the data set."""
    return word.lstrip("/")
