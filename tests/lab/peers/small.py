"""Peers small enough for a test, and the weights of a package that is not there."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.lab.peers.efficientnet_lite import Encoder, translated
from edgeprune.lab.peers.peer import Peer
from edgeprune.model.spec import ModelSpec
from edgeprune.train.recipe import Recipe
from tests import models

SPEC = ModelSpec(height=models.HEIGHT, width=models.WIDTH)


class Small(Peer):
    """Three convolutions, at stride 4."""

    def __init__(self, spec: ModelSpec):
        super().__init__(spec, (127.0,) * 3, (128.0,) * 3)
        layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU6()]
        self.layers, self.classify = nn.Sequential(*layers), nn.Conv2d(16, spec.classes, 1)

    def coarse_logits(self, x_B3HW: Tensor) -> Tensor:
        return self.classify(self.layers(x_B3HW))


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


def packaged(encoder: Encoder) -> dict[str, Tensor]:
    """Random weights under the names that the packages have them under."""
    torch.manual_seed(1)
    own = encoder.state_dict()
    return {theirs: torch.rand_like(own[key]) for key, theirs in translated(own)}
