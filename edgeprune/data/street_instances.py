"""The synthetic street written as a data set of instances: a PNG a frame, COCO's JSON of the things in it, and the YAML.

An annotation has two keys more than COCO's: `track_id`, the same in all frames of a drive and no other thing's in the file, and
`occlusion`, the share of the thing's silhouette inside the frame that something hides, 0 to 1. An image has `seed` and `frame`,
from which `Drive` renders it anew; `info` has `camera_speed` where it is not the street's own.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeprune.base.errors import InputError, nearest
from edgeprune.data.classes import BACKGROUND
from edgeprune.data.datasets import DataSet, StreetSplit
from edgeprune.data.drive import Drive
from edgeprune.data.instances import box_of
from edgeprune.data.polygons import encode_runs
from edgeprune.data.split import splits_of
from edgeprune.data.street import renderer_version
from edgeprune.street.owners import COUNTED, Frame, Key

logger = logging.getLogger(__name__)

ANNOTATIONS = "annotations"
SAID_EVERY = 500  # frames
AS_IT_IS = 100  # the camera's speed, in hundredths of the street's own
QUICK = 1  # zlib's level: the noise of a picture can't be packed anyway


@dataclass(frozen=True)
class Plan:
    """A split that is to be written: `frames` of the street's, `per_drive` of each seed, one after the other, by a camera of
    `speed` hundredths of the street's own."""

    name: str
    spec: StreetSplit
    frames: int
    per_drive: int
    speed: int = AS_IT_IS

    @property
    def seeds(self) -> range:
        return range(self.spec.seed, self.spec.seed - (-self.frames // self.per_drive))

    def render(self) -> Iterator[tuple[int, int, Frame]]:
        """Seed, index in its drive, and content of each frame. A drive begins with the scene of its seed."""
        left = self.frames
        for seed in self.seeds:
            street = Drive(seed, self.spec.height, self.spec.width, self.speed, self.spec.population)
            begin = street.moment
            for index in range(begin, begin + min(self.per_drive, left)):
                yield seed, index, street.frame_with_things(index)
            left -= self.per_drive


def plan_splits(data_set: DataSet, frames: Mapping[str, int], per_drive: int, speed: int = AS_IT_IS) -> list[Plan]:
    """Of every split of a rendered data set what is to be written; `frames`: of `train`, and of each other.

    Raises:
        InputError: a split is not rendered, or has clips, or two would have a street in common.
    """
    plans = []
    for name, spec in splits_of(data_set).items():
        if not isinstance(spec, StreetSplit):
            raise InputError(
                f"data set {data_set.name!r} has files for {name}, and is no synthetic street; give --data street, or "
                "street-small, street-hd, or a YAML whose splits have `seed` and `frames`"
            )
        if spec.clip > 1:
            raise InputError(
                f"data set {data_set.name!r} has clips of {spec.clip} frames for {name}, and things are written of drives; "
                f"give --data street --frames-per-drive {spec.clip} --speed 0"
            )
        plans.append(Plan(name, spec, frames[name], per_drive, speed))
    for number, plan in enumerate(plans):
        for other in plans[:number]:
            shared = range(max(plan.seeds.start, other.seeds.start), min(plan.seeds.stop, other.seeds.stop))
            if shared:
                raise InputError(
                    f"{other.name} and {plan.name} of data set {data_set.name!r} would both have the street of seed "
                    f"{shared.start}; ask for fewer frames, or set their `seed` further apart in its YAML"
                )
    return plans


def labels_of(data_set: DataSet) -> dict[str, int]:
    """The class in the street of each of the things that a data set has: all that can be counted where it names none.

    Raises:
        InputError: it names one that the street can't count.
    """
    counted = {name: label for label, name in enumerate(data_set.names) if label in COUNTED}
    for name in data_set.things:
        if name not in counted:
            raise InputError(
                f"data set {data_set.name!r}: things: {name!r} is nothing that the street counts, which is {', '.join(counted)}"
                f"; leave it out{nearest(name, list(counted))}"
            )
    return {name: label for name, label in counted.items() if name in (data_set.things or counted)}


def write_data_set(folder: Path, data_set: DataSet, plans: list[Plan], least: int = 1) -> dict[str, int]:
    """Writes pictures, annotations and the YAML into an empty folder.

    Args:
        least: pixels of a thing; what has fewer is written as a crowd.

    Returns:
        how many things each split has.

    Raises:
        InputError: see `labels_of`.
    """
    labels = labels_of(data_set)
    (folder / ANNOTATIONS).mkdir()
    things = {plan.name: _write_split(folder, plan, labels, least) for plan in plans}
    name = f"{data_set.name}-instances"
    text = yaml_text(name, plans, {thing: data_set.palette[label] for thing, label in labels.items()})
    (folder / f"{Path(name).name}.yaml").write_text(text, encoding="utf-8")
    return things


def _annotations_file(split: str) -> str:
    return f"{ANNOTATIONS}/instances_{split}.json"


def _write_split(folder: Path, plan: Plan, labels: Mapping[str, int], least: int) -> int:
    """Pictures and annotations of a split; how many things it has."""
    category_of = {label: place for place, label in enumerate(labels.values(), 1)}
    categories = [{"id": place, "name": name} for place, name in enumerate(labels, 1)]
    info: dict[str, Any] = {"description": f"the synthetic street, renderer {renderer_version()}"}
    info |= {} if plan.speed == AS_IT_IS else {"camera_speed": plan.speed}
    head = {"info": info, "categories": categories}
    images: list[str] = []
    tracks: dict[tuple[int, Key, int], int] = {}
    things = 0
    (folder / plan.name).mkdir()
    with (folder / _annotations_file(plan.name)).open("w", encoding="ascii") as file:
        # annotations are written as they come: those of a large set are more than one keeps in memory
        file.write(json.dumps(head)[:-1] + ',\n"annotations": [')
        for number, (seed, index, frame) in enumerate(plan.render(), 1):
            about = _image(plan, number, seed, index)
            Image.fromarray(frame.image_HW3).save(folder / plan.name / about["file_name"], compress_level=QUICK)
            images.append(json.dumps(about))
            for annotation in _annotations(frame, number, seed, category_of, tracks):
                annotation["iscrowd"] = int(annotation["area"] < least)
                file.write(f"{',' if things else ''}\n{json.dumps({'id': things + 1} | annotation)}")
                things += 1
            if number % SAID_EVERY == 0 or number == plan.frames:
                logger.info(f"{plan.name}: {number:,} of {plan.frames:,} frames")
        file.write('\n],\n"images": [\n' + ",\n".join(images) + "\n]}\n")
    return things


def _image(plan: Plan, number: int, seed: int, index: int) -> dict[str, Any]:
    place = (number - 1) % plan.per_drive
    name = f"street-{seed}-{place:04d}"  # the last number is the frame's: scenes follow no other, see `data.clips`
    size = {"height": plan.spec.height, "width": plan.spec.width}
    return {"id": number, "file_name": f"{name}.png"} | size | {"seed": seed, "frame": index}


def _annotations(
    frame: Frame, image: int, seed: int, category_of: Mapping[int, int], tracks: dict[tuple[int, Key, int], int]
) -> Iterator[dict[str, Any]]:
    """Of each thing of a frame; `tracks`: numbers of things that were seen before, to which new ones are added."""
    for place, thing in enumerate(frame.things, 1):
        if thing.label not in category_of:
            continue
        mask_HW: np.ndarray = frame.thing_HW == place
        box = box_of(mask_HW)
        assert box is not None  # it has pixels
        left, top, right, bottom = box
        yield {
            "image_id": image,
            "category_id": category_of[thing.label],
            "segmentation": {"size": list(mask_HW.shape), "counts": encode_runs(mask_HW)},
            "area": thing.pixels,
            "bbox": [left, top, right - left, bottom - top],
            "iscrowd": 0,
            "track_id": tracks.setdefault((seed, thing.key, thing.label), len(tracks) + 1),
            "occlusion": round(thing.occlusion, 4),
        }


def yaml_text(name: str, plans: list[Plan], colours: Mapping[str, tuple[int, int, int]]) -> str:
    """The YAML beside the folders; `colours`: of each thing, in the order of their ids."""
    lines = [
        "# The things of the synthetic street, rendered. Every key is described in docs/data.md.",
        f"name: {json.dumps(name)}",
        "path: .  # relative to this file",
    ]
    for plan in plans:
        split = {"images": plan.name, "labels": _annotations_file(plan.name), "format": "coco"}
        drives = "scenes" if plan.per_drive == 1 else f"frames, {plan.per_drive:,} of each drive"
        pace = "" if plan.speed == AS_IT_IS else f", the camera at {plan.speed}% of the street's speed"
        lines.append(
            f"{plan.name}: {json.dumps(split)}  # {plan.frames:,} {drives}, from seed {plan.spec.seed} on{pace}"
        )
    lines += [
        f"names: {json.dumps([BACKGROUND, *colours])}  # the ids of categories are their places",
        f"things: {json.dumps(list(colours))}",
        f"palette: {json.dumps([(0, 0, 0), *colours.values()])}",
        "ignore_index: 255",
    ]
    return "\n".join(lines) + "\n"
