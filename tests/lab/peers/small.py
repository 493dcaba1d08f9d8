"""Peers small enough for a test, and the weights of a package that is not there."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.lab.peers.efficientnet_lite import Encoder, translated
from edgeprune.lab.peers.peer import HeadedPeer, LabelPeer
from edgeprune.model.spec import ModelSpec
from edgeprune.train.recipe import Recipe
from tests import models
from tests.train import rectangles

SPEC = ModelSpec(height=models.HEIGHT, width=models.WIDTH)
SPEC_OF_THINGS = SPEC.model_copy(update={"task": "instance", "queries": 8, "classes": len(rectangles.NAMES)})
LEVELS = (127.0,) * 3, (128.0,) * 3


class Small(LabelPeer):
    """Three convolutions, at stride 4."""

    def __init__(self, spec: ModelSpec):
        super().__init__(spec, *LEVELS)
        layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU6()]
        self.layers, self.classify = nn.Sequential(*layers), nn.Conv2d(16, spec.classes, 1)

    def coarse_logits(self, x_B3HW: Tensor) -> Tensor:
        return self.classify(self.layers(x_B3HW))


class Things(HeadedPeer):
    """A convolution at each stride, under our head."""

    CHANNELS = (3, 8, 8, 8, 16, 16)

    def __init__(self, spec: ModelSpec):
        super().__init__(spec, *LEVELS, self.CHANNELS[2:])
        pairs = zip(self.CHANNELS, self.CHANNELS[1:], strict=False)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU6())
            for before, after in pairs
        )

    def features(self, x_B3HW: Tensor) -> list[Tensor]:
        found = [x_B3HW]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return found[2:]

    def begin(self) -> str:
        """With weights so large that what it sees shows in its answer."""
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=parameter[0].numel() ** -0.5)
        return "large"


def recipe(folder: Path, **changes: Any) -> Recipe:
    """One dense phase on the small street."""
    data = models.write_street(folder)
    phase = {"kind": "dense", "data": [{"data": data}], "frames": 8, "batch": 2, "lr": 2e-2, "ema": 0.9}
    content = {
        "name": "small-peer",
        "model": {"height": models.HEIGHT, "width": models.WIDTH},
        "phases": {"crops": phase | changes.pop("phase", {})},
        "validation": {"data": data, "split": "val", "frames": 2, "times": 2},
        "calibration": {"data": data, "frames": 8},
        "device": "cpu",
        "threads": 1,
        "bf16": False,
    }
    return Recipe.model_validate(content | changes)


def recipe_of_things(folder: Path, **phase: Any) -> Recipe:
    """One dense phase on rectangles (`rectangles.give`)."""
    data = rectangles.write_set(folder)
    return recipe(
        folder,
        model=SPEC_OF_THINGS.model_dump(include={"task", "queries", "classes", "height", "width"}),
        phase={"data": [{"data": data}], "lr": 1e-3, **phase},
        validation={"data": data, "split": "val", "frames": 4, "times": 2},
        calibration={"data": data, "frames": 8},
    )


def packaged(encoder: Encoder) -> dict[str, Tensor]:
    """Random weights under the names that the packages have them under."""
    torch.manual_seed(1)
    own = encoder.state_dict()
    return {theirs: torch.rand_like(own[key]) for key, theirs in translated(own)}
