"""A data set of rectangles that overlap, each a thing of one of two classes, for trainings of the instance task. How things are
read from files is tested with what reads them."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from PIL import Image

from edgeprune.data import Sample
from edgeprune.data.datasets import voc_colours
from edgeprune.data.instances import Instances
from edgeprune.model.checkpoint import Card
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.train.recipe import Recipe
from tests import models
from tests.data import coco_files
from tests.export import instances

NAMES = ["background", "box", "plate"]
COLOURS = np.array([[40, 40, 40], [220, 60, 40], [40, 90, 230]], np.uint8)
FRAMES = 8


class Rectangles:
    """Frames of a box and a plate, which lies over a part of it; both masks are of all that they would cover alone.

    Args:
        indices: of the frames, whose number is all that they hang on.
        things: whether samples have their things.
    """

    def __init__(self, indices: Sequence[int], things: bool):
        self.indices, self.things = list(indices), things

    @property
    def names(self) -> list[str]:
        return [f"frame-{index:02d}" for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> Sample:
        masks = masks_of(self.indices[place])
        label_HW = np.zeros((models.HEIGHT, models.WIDTH), np.uint8)
        for class_id, mask_HW in enumerate(masks, start=1):
            label_HW[mask_HW] = class_id
        things = Instances.of([1, 2], masks, label_HW.shape) if self.things else None
        return Sample(self.names[place], COLOURS[label_HW], label_HW, things)

    def __iter__(self) -> Iterator[Sample]:
        return (self[place] for place in range(len(self)))

    def origin(self, place: int) -> str:
        return self.names[place]

    def some(self, indices: Sequence[int]) -> "Rectangles":
        return Rectangles([self.indices[place] for place in indices], self.things)


def masks_of(index: int) -> list[np.ndarray]:
    """The box and the plate of a frame, (H, W) each."""
    random = np.random.default_rng(index)
    top, left = int(random.integers(2, 20)), int(random.integers(2, 36))
    masks = []
    for down, right in ((0, 0), (14, 20)):
        mask_HW = np.zeros((models.HEIGHT, models.WIDTH), bool)
        mask_HW[top + down : top + down + 26, left + right : left + right + 36] = True
        masks.append(mask_HW)
    return masks


def opened(data_set: Any, split: str, include: Any = ("*",), exclude: Any = (), things: bool = False) -> Rectangles:
    """In place of `open_split`."""
    return Rectangles(range(FRAMES) if split == "train" else range(100, 100 + FRAMES), things)


def give(patch: pytest.MonkeyPatch) -> None:
    """Lets every data set be this one."""
    for module in ("data.split", "data.held_out", "train.batches", "train.validation", "train.fingerprint"):
        patch.setattr(f"edgeprune.{module}.open_split", opened)


def write_set(folder: Path) -> str:
    """A data-set YAML; its path."""
    split = {"images": "images", "labels": "labels"}
    path = folder / "rectangles.yaml"
    path.write_text(yaml.safe_dump({"name": "rectangles", "path": ".", "names": NAMES, "train": split, "val": split}))
    return str(path)


def recipe(folder: Path, **changes: Any) -> Recipe:
    """`models.recipe` on these frames, for a network of two blocks and eight queries."""
    data = write_set(folder)
    content = models.recipe(folder).model_dump()
    for phase in content["phases"].values():
        phase["data"] = [{"data": data}]
    content["model"] |= {"task": "instance", "queries": 8, "depth": 2, "classes": len(NAMES)}
    content["policy"]["options"] = {"first": 1, "keep": [0.6]}
    content["calibration"]["data"] = data
    return Recipe.model_validate(content | changes)


def card(made: Recipe, **model: Any) -> Card:
    """Of a dense checkpoint of the recipe's model, with other keys of it."""
    spec = ModelSpec.model_validate(made.model.model_dump() | model)
    return Card(name="tiny", model=spec, policy=PolicySpec(), names=NAMES, palette=voc_colours(len(NAMES)))


class Scores:
    """In place of `evaluate.tasks.instance.InstanceScores`, so that no metric is needed: what it was given.

    Attributes:
        outputs, samples: of the frames.
    """

    made: ClassVar[list["Scores"]]

    def __init__(self, preprocess: Any, data_set: Any) -> None:
        self.outputs: list[dict[str, np.ndarray]] = []
        self.samples: list[Sample] = []
        Scores.made.append(self)

    def add(self, outputs: dict[str, np.ndarray], sample: Sample) -> None:
        self.outputs.append(outputs)
        self.samples.append(sample)

    def result(self) -> dict[str, float | None]:
        """The mean of the best scores stands for a figure."""
        return {"mask_ap": float(np.mean([each["scores"][0] for each in self.outputs])) if self.outputs else None}


def stand_in(patch: pytest.MonkeyPatch) -> list[Scores]:
    """Lets things be scored by `Scores`; each that is made."""
    module = ModuleType("edgeprune.evaluate.tasks.instance")
    module.InstanceScores = Scores  # type: ignore[attr-defined]
    patch.setitem(sys.modules, module.__name__, module)
    patch.setattr("edgeprune.train.tasks.instance_checks.METRIC", "numpy")
    patch.setattr(Scores, "made", [], raising=False)
    return Scores.made


def write_coco(folder: Path, frames: int = 4) -> str:
    """The first frames as files, with COCO's JSON of their things, of `train` and `val` alike; the YAML's path."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    size = {"height": models.HEIGHT, "width": models.WIDTH}
    about: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, sample in enumerate(Rectangles(range(frames), False)):
        Image.fromarray(sample.image_HW3).save(folder / "images" / f"{sample.name}.png")
        about.append({"id": index + 1, "file_name": f"{sample.name}.png"} | size)
        for class_id, mask_HW in enumerate(masks_of(index), start=1):
            shape = {"size": [models.HEIGHT, models.WIDTH], "counts": coco_files.runs(mask_HW)}
            annotations.append(coco_files.annotation(len(annotations) + 1, class_id, shape, index + 1))
    categories = [{"id": class_id, "name": name} for class_id, name in enumerate(NAMES) if class_id]
    (folder / "things.json").write_text(
        json.dumps({"images": about, "annotations": annotations, "categories": categories})
    )
    split = {"images": "images", "labels": "things.json", "format": "coco"}
    path = folder / "rectangles-coco.yaml"
    path.write_text(yaml.safe_dump({"name": "rectangles", "path": ".", "names": NAMES, "train": split, "val": split}))
    return str(path)


def things_card(policy: str = "svit", depth: int = 3, **options: Any) -> Card:
    """Of a small model of these classes, that finds things."""
    described = instances.card(policy, depth, **options)
    spec = described.model.model_copy(update={"classes": len(NAMES)})
    return described.model_copy(update={"model": spec, "names": NAMES, "palette": voc_colours(len(NAMES))})
