"""Roboflow's "Semantic Segmentation Masks": `train/x.jpg`, `train/x_mask.png`, `train/_classes.csv`."""

from edgeprune.data.layouts.found import Content, Found
from edgeprune.data.layouts.legends import find_legend
from edgeprune.data.layouts.naming import classes_of, look_at_masks
from edgeprune.data.layouts.tree import Tree, join

LEGEND, ENDING = "_classes.csv", "_mask.png"


def look(tree: Tree) -> Found | None:
    """A folder for each split, or one alone."""
    places = tree.splits() or {"train": ""}
    masks = {
        split: [join(place, name) for name in tree.files(place) if name.endswith(ENDING)]
        for split, place in places.items()
        if LEGEND in tree.files(place)
    }
    splits: dict[str, Content] = {
        split: {
            "images": places[split] or ".",
            "labels": join(places[split], f"{{stem}}{ENDING}"),
            "exclude": ["*_mask"],
        }
        for split, names in masks.items()
        if names
    }
    if not splits:
        return None
    held = look_at_masks([tree.root / name for names in masks.values() for name in names])
    classes, notes = classes_of(find_legend(tree, (LEGEND,)), held)
    return Found(f"it has {LEGEND} and masks called ...{ENDING}", splits, classes, notes)
