"""The layouts in which data sets come, told from one another by their folders and files.

A layout says what the YAML of a data set would: `edgeprune data init` writes it, `--data FOLDER` reads it at once. Another
layout is one function that answers `Found` or None, and one row.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeprune.base.errors import InputError, choose
from edgeprune.base.paths import real_path
from edgeprune.data.datasets import DataSet, parse_data_set
from edgeprune.data.layouts import benchmarks, coco, folders, roboflow, voc, yolo
from edgeprune.data.layouts.found import Content, Found
from edgeprune.data.layouts.own import own_yaml
from edgeprune.data.layouts.tree import Tree
from edgeprune.data.split import SPLITS

log = logging.getLogger("edgeprune")
FOLDERS = "folders"
LAYOUTS: dict[str, Callable[[Tree], Found | None]] = {
    "cityscapes": benchmarks.look_for_cityscapes,
    "ade20k": benchmarks.look_for_ade20k,
    "coco-stuff": benchmarks.look_for_coco_stuff,
    "voc": voc.look,
    "cvat": voc.look_for_cvat,
    "roboflow": roboflow.look,
    "coco": coco.look,
    "yolo": yolo.look,
    FOLDERS: folders.look,
}
OF_MASKS = ("cityscapes", "ade20k", "coco-stuff", "voc", "cvat", "roboflow")  # which `folders` would take them for, too
_said: set[str] = set()


@dataclass(frozen=True)
class Described:
    """A folder's layout, what it was recognised by, and the content of its YAML."""

    layout: str
    why: str
    content: Content
    notes: list[str]

    @property
    def splits(self) -> list[str]:
        return [split for split in SPLITS if split in self.content]

    def data_set(self) -> DataSet:
        """Raises InputError: what was found is no data set, of one class, say."""
        return parse_data_set(self.content, Path(self.content["path"]))

    def lines(self) -> list[str]:
        """What there is to say of it, a line each."""
        return [f"{self.content['path']}: taken for {self.layout}, for {self.why}", *self.notes]


def describe(folder: Path, layout: str | None = None, share: float | None = None) -> Described:
    """What a folder is, and the YAML that says so; it is said once in a process.

    Args:
        layout: the one that it is, where that is known.
        share: of the frames that come before val, where there is no val.

    Raises:
        InputError: it is of no layout, or of two.
    """
    if layout is not None:
        choose(LAYOUTS, layout, "layout")
    root, (name, found) = _unwrapped(real_path(folder), layout)
    found = found.divided(share)
    content = {"name": _name(folder), "path": str(root)} | found.splits | found.classes
    described = Described(name, found.why, content, found.notes)
    _say_once(*described.lines())
    return described


def find_own(folder: Path) -> Path | None:
    """The data-set YAML in a folder, which then says what it is.

    Raises:
        InputError: there are two.
    """
    own = own_yaml(folder)
    if own is not None:
        _say_once(f"{folder}: {own.name} in it says what it is")
    return own


def _say_once(*lines: str) -> None:
    """A verb asks for a data set several times."""
    for line in lines:
        if line not in _said:
            _said.add(line)
            log.info(line)


def complete(content: Content, path: Path) -> Content:
    """A YAML that says `layout:` and its folder, with the rest as it is found there; what it says itself counts.

    Raises:
        InputError: see `describe`; or it has no `path`.
    """
    layout, folder = content["layout"], content.get("path")
    if not isinstance(layout, str) or not isinstance(folder, str):
        raise InputError(f"{path}: layout goes with `path`, the folder that is of it; choices: {', '.join(LAYOUTS)}")
    if not os.path.isdir(folder):
        raise InputError(f"{path}: path: {folder} is no folder; correct it")
    found = describe(Path(folder), layout).content
    rest = {key: value for key, value in content.items() if key not in ("layout", "path")}
    if "names" in rest and "palette" not in rest:
        found.pop("palette", None)
    return found | rest


def _unwrapped(folder: Path, layout: str | None) -> tuple[Path, tuple[str, Found]]:
    """A layout of the folder, or of the only folder in it, as archives have it."""
    tree, outer = Tree(folder), None
    while True:
        found = _look(tree, layout)
        if found is not None:
            return tree.root, found
        outer = outer or tree
        if len(tree.folders()) != 1 or tree.files():
            raise InputError(_unknown(outer, layout))
        tree = Tree(tree.root / tree.folders()[0])


def _look(tree: Tree, layout: str | None) -> tuple[str, Found] | None:
    if layout is not None:
        found = LAYOUTS[layout](tree)
        return (layout, found) if found is not None else None
    fitting = {name: found for name, look in LAYOUTS.items() if name != FOLDERS and (found := look(tree)) is not None}
    if not fitting.keys() & set(OF_MASKS) and (found := folders.look(tree)) is not None:
        fitting[FOLDERS] = found
    if len(fitting) > 1:
        reasons = " and ".join(f"{name} ({found.why})" for name, found in fitting.items())
        raise InputError(
            f"{tree.root} may be {reasons}; say which: a data-set YAML of two lines, `path: {tree.root}` and "
            f"`layout: {next(iter(fitting))}`, or `edgeprune data init {tree.root} --layout {next(iter(fitting))}`"
        )
    return next(iter(fitting.items()), None)


def _unknown(tree: Tree, layout: str | None) -> str:
    inside = [f"{name}/" for name in tree.folders()] + tree.files()
    shown = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "") if inside else "nothing"
    what = "of no layout that is known" if layout is None else f"not of layout {layout}"
    return (
        f"{tree.root} is {what}: it holds {shown}; expected images with masks of the same stems, such as train/images and "
        "train/labels, COCO's JSON, or YOLO's data.yaml: name the folder above or below, or write a data-set YAML "
        "(docs/data.md)"
    )


def _name(folder: Path) -> str:
    return Path(os.path.abspath(folder)).name or "data"


__all__ = ["LAYOUTS", "Described", "complete", "describe", "find_own"]
