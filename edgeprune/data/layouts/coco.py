"""COCO's JSON of instances, beside its images or in `annotations/`."""

import re
from collections.abc import Iterator
from os.path import isfile
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.data.classes import BACKGROUND
from edgeprune.data.coco import Index, index_of
from edgeprune.data.json_records import has_keys
from edgeprune.data.layouts.found import Content, Found
from edgeprune.data.layouts.tree import SPLIT_NAMES, Tree, join

OTHERS = ("captions", "person_keypoints", "panoptic", "image_info", "stuff_", "predictions", "results")


def look(tree: Tree) -> Found | None:
    """Files with images, annotations and categories: one a split, or one alone.

    Raises:
        InputError: two are of one split; their categories differ; or their images are not there.
    """
    paths: dict[str, str] = {}
    for split, path in _files(tree):
        if split in paths:
            raise InputError(
                f"{tree.root}: {paths[split]} and {path} are both COCO's JSON for {split}; say which in a data-set YAML: "
                f"`{split}: {{images: FOLDER, labels: {path}, format: coco}}`"
            )
        paths[split] = path
    if not paths:
        return None
    indices = {split: index_of(tree.root / path) for split, path in paths.items()}
    splits: dict[str, Content] = {
        split: {"images": _images(tree, split, path, indices[split]), "labels": path, "format": "coco"}
        for split, path in paths.items()
    }
    classes, notes = _classes(tree, paths, indices)
    return Found(
        f"{' and '.join(paths.values())} {'is' if len(paths) == 1 else 'are'} COCO's JSON", splits, classes, notes
    )


def _files(tree: Tree) -> Iterator[tuple[str, str]]:
    """Split and path of each file that is one of instances."""
    places = ["", "annotations", "labels", *tree.splits().values()]
    for place in dict.fromkeys(places):
        for name in tree.files(place):
            if name.endswith(".json") and not name.startswith(OTHERS):
                path = join(place, name)
                if has_keys(tree.root / path, {"images", "annotations"}):
                    yield _split_of(path), path


def _split_of(path: str) -> str:
    words = re.split(r"[^a-z0-9]+", path.lower())
    return next((split for split, known in SPLIT_NAMES.items() if set(known) & set(words)), "train")


def _images(tree: Tree, split: str, path: str, index: Index) -> str:
    """The folder that the file's images are relative to: of some likely ones that which has the first of them."""
    if not index.files:
        raise InputError(f"annotations {index.path} have no image; export them again")
    beside, stem = path.rpartition("/")[0], Path(path).stem
    names = [*dict.fromkeys((stem.rpartition("_")[2], *SPLIT_NAMES[split], "default"))]
    likely = [beside, join(beside, "images"), "images", *(join("images", name) for name in names), *names, ""]
    found = next((place for place in likely if isfile(tree.root / place / index.files[0])), None)
    if found is None:
        raise InputError(
            f"{tree.root}: {path} names {index.files[0]}, which is in none of {', '.join(place or '.' for place in likely[:4])}"
            f" and others; say where in a data-set YAML: `{split}: {{images: FOLDER, labels: {path}, format: coco}}`"
        )
    return found or "."


def _classes(tree: Tree, paths: dict[str, str], indices: dict[str, Index]) -> tuple[Content, list[str]]:
    first_split, first = next(iter(indices.items()))
    for split, index in indices.items():
        if index.categories != first.categories:
            raise InputError(
                f"{tree.root}: {paths[first_split]} and {paths[split]} have other categories; export them together, or write a "
                "data set for each"
            )
    used = {category for index in indices.values() for category in index.used}
    lost = sorted(used - first.categories.keys())
    if lost:
        raise InputError(
            f"{tree.root}: annotations have category {lost[0]}, which `categories` does not name; export again"
        )
    unused = [name for category, name in first.categories.items() if category not in used]
    ids = {category: name for category, name in sorted(first.categories.items()) if category in used}
    notes = [f"categories without an annotation are left out: {', '.join(unused)}"] if unused else []
    names = [name for name in dict.fromkeys(ids.values()) if name != BACKGROUND]
    return {"names": [BACKGROUND, *names], "ids": ids}, [*notes, "what no instance covers is background"]
