"""Small data sets of COCO's JSON, drawn by a test: two frames, four categories with gaps between their ids."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeprune.data.datasets import DataSet

HEIGHT, WIDTH = 24, 32
CATEGORIES = {3: "box", 7: "crate", 40: "floor", 41: "never"}  # `never` is of no annotation
NAMES = ["background", "box", "crate", "floor", "never"]
BOX, CRATE, FLOOR, FREE = 3, 7, 40, 90  # FREE: `ids` says that it is ignored
FRAMES = ("a", "b")  # their ids are 5 and 1000


def rectangle(left: float, top: float, right: float, bottom: float) -> list[float]:
    """Its outline, as COCO has it."""
    return [left, top, right, top, right, bottom, left, bottom]


def runs(mask_HW: Any) -> list[int]:
    """COCO's run lengths, down the columns, from outside on."""
    found, value = [0], False
    for pixel in np.asarray(mask_HW, bool).T.ravel():
        if pixel != value:
            found.append(0)
            value = bool(pixel)
        found[-1] += 1
    return found


def annotation(number: Any, category: int, segmentation: Any, image: int = 5, **keys: Any) -> dict[str, Any]:
    """`segmentation`: polygons, or run lengths."""
    ids = {"id": number, "image_id": image, "category_id": category}
    return ids | {"segmentation": segmentation, "iscrowd": 0} | keys


def write_set(folder: Path, annotations: Sequence[dict[str, Any]], **keys: Any) -> DataSet:
    """Writes the frames and their JSON. `keys`: of the data set, beside or in place of its own."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    about = []
    for number, stem in zip((5, 1000), FRAMES, strict=True):
        noise = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{stem}.png")
        about.append({"id": number, "file_name": f"{stem}.png", "height": HEIGHT, "width": WIDTH})
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    content = {"images": about, "annotations": list(annotations), "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content))
    split = {"images": "images", "labels": "coco.json", "format": "coco"}
    own: dict[str, Any] = {"name": "tiny", "path": folder, "train": split, "val": split, "names": NAMES}
    own |= {"ids": {**CATEGORIES, FREE: "ignore"}, "things": ["box", "crate"]}
    return DataSet.model_validate(own | keys)
