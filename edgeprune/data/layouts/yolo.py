"""YOLO's `data.yaml` with polygons in text files."""

from pathlib import PurePosixPath
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import TEXT_BYTES
from edgeprune.base.reading import read_yaml
from edgeprune.data.classes import BACKGROUND
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.layouts.found import Content, Found
from edgeprune.data.layouts.tree import SPLIT_NAMES, Tree, join


def look(tree: Tree) -> Found | None:
    """A YAML with `names` and the folders (or lists) of the images of each split; labels lie in `labels` for `images`.

    Raises:
        InputError: the folders that it names are not there.
    """
    for name in tree.files():
        path = tree.root / name
        if not name.endswith((".yaml", ".yml")) or path.stat().st_size > TEXT_BYTES:
            continue
        try:
            content = read_yaml(path, "data set")
        except InputError:
            continue  # something else's
        if (
            isinstance(content, dict)
            and "names" in content
            and isinstance(content.get("train", content.get("val")), str | list)
        ):
            splits = {
                split: _split(tree, name, content, key)
                for split, known in SPLIT_NAMES.items()
                if (key := next((each for each in known if content.get(each)), None))
            }
            return Found(
                f"{name} names folders of images as YOLO's does", _with_labels(tree, splits), _classes(path, content)
            )
    return None


def _split(tree: Tree, name: str, content: dict[str, Any], key: str) -> Content:
    value = content[key]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise InputError(
            f"{tree.root / name}: {key} names several folders; put their images into one, or write a data set for each"
        )
    base = content.get("path") if isinstance(content.get("path"), str) else ""
    # Roboflow's `../train/images` is beside the YAML, and `path` is often that of another machine
    words = [part for part in PurePosixPath(value).parts if part not in ("..", ".", "/")]
    likely = [
        join(*PurePosixPath(base).parts[-1:], *words) if base else "",
        *("/".join(words[start:]) for start in range(len(words))),
    ]
    found = next((place for place in likely if place and tree.has(place)), None)
    if found is None:
        raise InputError(f"{tree.root / name}: {key}: {value} is not in {tree.root}; correct it, relative to the file")
    if not found.endswith(".txt"):
        return {"images": found}
    return {"images": "images" if tree.has("images") else ".", "file_list": found}


def _with_labels(tree: Tree, splits: dict[str, Content]) -> dict[str, Content]:
    """The splits that have text files; `test` often has none."""
    found: dict[str, Content] = {}
    for split, spec in splits.items():
        parts = spec["images"].split("/")
        labels = "/".join("labels" if part == "images" else part for part in parts)
        if tree.below(labels, (".txt",)) and tree.below(spec["images"], IMAGE_SUFFIXES):
            found[split] = {"images": spec["images"], "labels": labels, "format": "yolo"} | spec
    if not found:
        raise InputError(
            f"{tree.root}: there are no text files for {next(iter(splits.values()))['images']}; expected labels/x.txt for "
            "images/x.jpg"
        )
    return found


def _classes(path: Any, content: dict[str, Any]) -> Content:
    names = content["names"]
    by_id = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(by_id, dict) or not by_id or not all(isinstance(key, int) for key in by_id):
        raise InputError(f"{path}: names are no list, nor ids with their names; correct them")
    ids = {index: str(name) for index, name in sorted(by_id.items())}
    others = [name for name in dict.fromkeys(ids.values()) if name != BACKGROUND]
    return {"names": [BACKGROUND, *others], "ids": ids}
