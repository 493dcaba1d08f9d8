"""Folders of images and of masks, whatever they are called, and split lists: what has no name of its own."""

from collections.abc import Iterator
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.labels import LABEL_SUFFIXES
from edgeprune.data.layouts.found import Content, Found
from edgeprune.data.layouts.legends import find_legend
from edgeprune.data.layouts.naming import classes_of, look_at_masks
from edgeprune.data.layouts.pairing import Way, ways
from edgeprune.data.layouts.tree import SPLIT_NAMES, Tree, join
from edgeprune.data.pairs import read_list

# in small letters
IMAGES = (
    "images",
    "image",
    "imgs",
    "img",
    "img_dir",
    "jpegimages",
    "frames",
    "rgb",
    "inputs",
    "input",
    "pictures",
    "photos",
)
LABELS = (
    *(
        "labels",
        "label",
        "masks",
        "mask",
        "annotations",
        "annotation",
        "ann_dir",
        "segmentationclass",
        "gt",
        "ground_truth",
    ),
    *("groundtruth", "targets", "target", "segmentation", "segmentations", "labelids", "stuffthingmaps"),
)
BESIDE = (
    "annot",
    "_annot",
    "_labels",
    "_label",
    "_masks",
    "_mask",
    "_gt",
    "-labels",
    "-masks",
)  # `train`, `trainannot`
LISTS = ("", "splits", "split", "lists", "list", "ImageSets", "ImageSets/Segmentation")


def look(tree: Tree) -> Found | None:
    """Images and masks that go together by name, in folders of splits or in one.

    Raises:
        InputError: they do in several ways that are as good.
    """
    lists = split_lists(tree)
    if lists and all(len(read_list(tree.root / path)[0]) == 2 for path in lists.values()):
        return _of_pairs(tree, lists)
    for splits in (_split_by_split(tree), _kind_by_kind(tree), _all_in_one(tree, lists)):
        chosen = {split: _only(tree, split, found) for split, found in splits.items() if found}
        if chosen:
            masks = [tree.root / mask for way in chosen.values() for mask in way.masks]
            classes, notes = classes_of(find_legend(tree), look_at_masks(masks))
            first = next(iter(chosen.values()))
            why = (
                f"{first.images or 'the images'} and {first.labels} go together by name"
                if first.images != first.labels
                else "images and masks lie side by side"
            )
            return Found(why, _specs(chosen, lists), classes, notes)
    return None


def _specs(chosen: dict[str, Way], lists: dict[str, str]) -> dict[str, Content]:
    if list(chosen) != ["all"]:
        return {split: way.spec for split, way in chosen.items()}
    pool = chosen["all"].spec
    return {split: pool | {"file_list": path} for split, path in lists.items()} or {"train": pool}


def _only(tree: Tree, split: str, found: list[Way]) -> Way:
    if len(found) > 1:
        shown = " and with ".join(way.labels or "." for way in found[:4])
        raise InputError(
            f"{tree.root}: {found[0].images or '.'} goes as well with {shown}; say which in a data-set YAML, such as "
            f"`{'train' if split == 'all' else split}: {{images: {found[0].images or '.'}, labels: {found[0].labels}}}`"
        )
    return found[0]


def split_lists(tree: Tree) -> dict[str, str]:
    """The text files that say which images a split has, by split; `train` for one that is called otherwise and is alone."""
    for place in LISTS:
        names = {Path(name).stem.lower(): name for name in tree.files(place) if name.endswith((".txt", ".lst"))}
        found = {
            split: join(place, names[known])
            for split, all_known in SPLIT_NAMES.items()
            if (known := next((each for each in all_known if each in names), None))
        }
        if "train" in found:
            return found
        if "default" in names:
            return {"train": join(place, names["default"])}
    return {}


def _of_pairs(tree: Tree, lists: dict[str, str]) -> Found:
    masks = []
    for path in lists.values():
        for row in read_list(tree.root / path):
            masks.append(tree.root / row[1].lstrip("/"))
    classes, notes = classes_of(find_legend(tree), look_at_masks(masks))
    splits = {split: {"images": ".", "labels": ".", "file_list": path} for split, path in lists.items()}
    return Found(f"{' and '.join(lists.values())} name images and masks", splits, classes, notes)


def _split_by_split(tree: Tree) -> dict[str, list[Way]]:
    """`train/images` and `train/masks`; `train` and `trainannot`; `train` with both in it."""
    found: dict[str, list[Way]] = {}
    for split, folder in tree.splits().items():
        places = [*_kinds(tree, folder), *((folder, folder + end) for end in BESIDE if tree.has(folder + end))]
        found[split] = _best(tree, places or [(folder, folder)])
    return {split: each for split, each in found.items() if each} if found.get("train") or found.get("val") else {}


def _kind_by_kind(tree: Tree) -> dict[str, list[Way]]:
    """`images/train` and `masks/train`."""
    found: dict[str, list[Way]] = {}
    for images, labels in _kinds(tree, ""):
        of_images, of_labels = tree.splits(images), tree.splits(labels)
        for split in of_images:
            if split in of_labels:
                place = join(images, of_images[split]), join(labels, of_labels[split])
                found.setdefault(split, []).extend(ways(tree, *place))
    return {split: each for split, each in found.items() if each} if found.get("train") or found.get("val") else {}


def _all_in_one(tree: Tree, lists: dict[str, str]) -> dict[str, list[Way]]:
    """`images` and `masks`, or both in one folder."""
    found = _best(tree, [*_kinds(tree, "")] or [("", "")])
    return {"all": found} if found else {}


def _kinds(tree: Tree, place: str) -> Iterator[tuple[str, str]]:
    """Folders of images and of masks, side by side in one; images may lie in the folder itself, beside that of masks."""
    folders = {name.lower(): join(place, name) for name in tree.folders(place)}
    images = [folders[name] for name in IMAGES if name in folders and tree.below(folders[name], IMAGE_SUFFIXES)]
    if not images and any(name.lower().endswith(IMAGE_SUFFIXES) for name in tree.files(place)):
        images = [place]
    labels = [folders[name] for name in LABELS if name in folders and tree.below(folders[name], LABEL_SUFFIXES)]
    return ((each, other) for each in images for other in labels)


def _best(tree: Tree, places: list[tuple[str, str]]) -> list[Way]:
    found = [way for images, labels in places for way in ways(tree, images, labels)]
    best = max((way.share for way in found), default=0.0)
    return [way for way in found if way.share == best]
