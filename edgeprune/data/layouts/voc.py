"""`JPEGImages` and `SegmentationClass`: PASCAL VOC, and what CVAT exports in its form."""

from edgeprune.base.errors import InputError
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.known import known_classes
from edgeprune.data.labels import LABEL_SUFFIXES
from edgeprune.data.layouts.folders import split_lists
from edgeprune.data.layouts.found import Content, Found
from edgeprune.data.layouts.legends import find_legend
from edgeprune.data.layouts.naming import IGNORED, Held, classes_of, look_at_masks
from edgeprune.data.layouts.tree import Tree

IMAGES, MASKS, LEGEND = "JPEGImages", "SegmentationClass", "labelmap.txt"
VOID_RGB = [224, 224, 192]  # of borders, where masks are in colours


def look(tree: Tree) -> Found | None:
    """PASCAL VOC: palette PNGs, and lists in `ImageSets/Segmentation`. Its classes, where no file names others: labelme writes
    `class_names.txt` beside such folders."""
    if not (tree.has(IMAGES) and tree.has(MASKS)) or LEGEND in tree.files():
        return None
    held = _held(tree)
    known, legend = known_classes("voc"), find_legend(tree)
    if legend is None and max(held.ids - {IGNORED}, default=0) < len(known.names):
        classes: Content = {"names": "voc"}
        if held.colours:
            from edgeprune.data.datasets import voc_colours

            classes |= {"palette": [list(each) for each in voc_colours(len(known.names))], "ignore_colours": [VOID_RGB]}
        return Found(f"it has {IMAGES}/ and {MASKS}/", _splits(tree), classes)
    classes, notes = classes_of(legend, held)
    return Found(f"it has {IMAGES}/ and {MASKS}/", _splits(tree), classes, notes)


def look_for_cvat(tree: Tree) -> Found | None:
    """CVAT's "Segmentation mask": masks in the colours of `labelmap.txt`.

    Raises:
        InputError: it was exported without its images.
    """
    if LEGEND not in tree.files() or not tree.has(MASKS):
        return None
    if not tree.below(IMAGES, IMAGE_SUFFIXES):
        raise InputError(
            f"{tree.root} has {MASKS}/ and {LEGEND}, and no images in {IMAGES}/; export it from CVAT with `Save images`, or "
            "put them there"
        )
    classes, notes = classes_of(find_legend(tree, (LEGEND,)), _held(tree))
    return Found(f"it has {LEGEND} and {MASKS}/", _splits(tree), classes, notes)


def _held(tree: Tree) -> Held:
    return look_at_masks([tree.root / MASKS / name for name in tree.below(MASKS, LABEL_SUFFIXES)])


def _splits(tree: Tree) -> dict[str, Content]:
    """By lists, for there are images without masks."""
    pool: Content = {"images": IMAGES, "labels": MASKS}
    return {split: pool | {"file_list": path} for split, path in split_lists(tree).items()} or {"train": pool}
