"""Data sets of the field as they are distributed, with their classes (`data/known/`)."""

from pathlib import PurePosixPath

from edgeprune.data.known import REDUCE_ZERO_LABEL
from edgeprune.data.labels import LABEL_SUFFIXES
from edgeprune.data.layouts.found import Content, Found
from edgeprune.data.layouts.tree import Tree, join

# of Cityscapes' labels, which may lie side by side; both hold the same classes
TRAIN_IDS, LABEL_IDS = "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"


def look_for_cityscapes(tree: Tree) -> Found | None:
    """`leftImg8bit/train/CITY/STEM_leftImg8bit.png` and `gtFine/train/CITY/STEM_gtFine_labelIds.png` (or `TrainIds`)."""
    if not (tree.has("leftImg8bit") and tree.has("gtFine")):
        return None
    splits: dict[str, Content] = {}
    endings = set()
    for split, folder in tree.splits("leftImg8bit").items():
        names = tree.below(join("gtFine", folder), LABEL_SUFFIXES)
        ending = next((each for each in (LABEL_IDS, TRAIN_IDS) if any(name.endswith(each) for name in names)), None)
        if ending is not None and split != "test":  # whose labels are not published
            endings.add(ending)
            images = f"leftImg8bit/{folder}/{{stem}}_leftImg8bit.png"
            splits[split] = {"images": images, "labels": f"gtFine/{folder}/{{stem}}{ending}"}
    if not splits or len(endings) > 1:
        return None
    classes: Content = {"names": "cityscapes"} | ({"ids": "cityscapes"} if endings == {LABEL_IDS} else {})
    labels = "labelIds" if endings == {LABEL_IDS} else "labelTrainIds"
    return Found(f"it has leftImg8bit/ and gtFine/ with {labels}", splits, classes)


def look_for_ade20k(tree: Tree) -> Found | None:
    """`images/training/ADE_train_00000001.jpg` and `annotations/training/ADE_train_00000001.png`; ids count from 1."""
    splits = {
        split: {"images": f"images/{folder}", "labels": f"annotations/{folder}"}
        for split, folder in tree.splits("images").items()
        if any(name.startswith("ADE_") for name in tree.files(f"annotations/{folder}"))
    }
    if not splits:
        return None
    classes = {"names": "ade20k", "ids": REDUCE_ZERO_LABEL}
    return Found("annotations/ has masks called ADE_...", splits, classes)


def look_for_coco_stuff(tree: Tree) -> Found | None:
    """`images/train2017` or `train2017`, and masks in `stuffthingmaps/train2017` or `annotations/train2017`, of the ids of the
    release or, with `_labelTrainIds` behind the stem, of the classes in their order."""
    splits: dict[str, Content] = {}
    as_train_ids = False
    for maps in ("stuffthingmaps", "annotations"):
        for split, folder in tree.splits(maps).items():
            masks = tree.below(f"{maps}/{folder}", (".png",))
            images = next((each for each in (f"images/{folder}", folder) if tree.has(each)), None)
            if images is None or not masks or not folder.endswith(("2017", "2014")):
                continue
            as_train_ids = any(PurePosixPath(name).stem.endswith("_labelTrainIds") for name in masks)
            ending = "_labelTrainIds" if as_train_ids else ""
            splits.setdefault(split, {"images": images, "labels": f"{maps}/{folder}/{{stem}}{ending}.png"})
    if not splits:
        return None
    classes: Content = {"names": "coco-stuff"} | ({} if as_train_ids else {"ids": "coco-stuff"})
    return Found(f"{next(iter(splits.values()))['labels'].split('/')[0]}/ has masks of COCO's images", splits, classes)
