"""Files that say what the classes are: names, and sometimes ids or colours."""

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import read_text
from edgeprune.data.layouts.tree import Tree, join

VOID = ("void", "ignore", "ignored", "unlabeled", "unlabelled", "unknown")  # classes that are none


@dataclass
class Legend:
    """`ids`: of the names, where the file says them. `colours`: likewise."""

    path: str
    names: list[str]
    ids: list[int] = field(default_factory=list)
    colours: list[tuple[int, int, int]] = field(default_factory=list)


def _roboflow(path: Path, text: str) -> Legend:
    """`Pixel Value, Class` and a row for each."""
    rows = [row for row in csv.reader(text.splitlines()[1:], skipinitialspace=True) if row]
    return Legend(str(path), [row[1].strip() for row in rows], [int(row[0]) for row in rows])


def _cvat(path: Path, text: str) -> Legend:
    """`# label:color_rgb:parts:actions`, then `car:128,0,0::`."""
    rows = [line.rsplit(":", 3) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return Legend(str(path), [row[0] for row in rows], colours=[_colour(row[1].split(",")) for row in rows])


def _class_dict(path: Path, text: str) -> Legend:
    """`name,r,g,b` and a row for each."""
    rows = [row for row in csv.reader(text.splitlines()[1:], skipinitialspace=True) if row]
    return Legend(str(path), [row[0].strip() for row in rows], colours=[_colour(row[1:4]) for row in rows])


def _lines(path: Path, text: str) -> Legend:
    """A name on each line."""
    return Legend(str(path), [line.strip() for line in text.splitlines() if line.strip()])


def _colour(words: list[str]) -> tuple[int, int, int]:
    red, green, blue = (int(word) for word in words)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"{red},{green},{blue} is no colour")
    return red, green, blue


LEGENDS: dict[str, Callable[[Path, str], Legend]] = {
    "_classes.csv": _roboflow,
    "labelmap.txt": _cvat,
    "class_dict.csv": _class_dict,
    "classes.txt": _lines,
    "class_names.txt": _lines,
    "labels.txt": _lines,
    "codes.txt": _lines,
}


def find_legend(tree: Tree, known: tuple[str, ...] = tuple(LEGENDS)) -> Legend | None:
    """The first of these files, in the folder or in that of a split.

    Raises:
        InputError: it is there, and is none.
    """
    for name in known:
        for place in ("", *tree.splits().values()):
            if name in tree.files(place):
                path = tree.root / join(place, name)
                try:
                    return LEGENDS[name](path, read_text(path, "class names").lstrip("\ufeff"))
                except (ValueError, IndexError) as error:
                    reason = str(error) or "a row is too short"
                    raise InputError(
                        f"class names {path} can't be read ({reason}); correct it or take it away"
                    ) from None
    return None
