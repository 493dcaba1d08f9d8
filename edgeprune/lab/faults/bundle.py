"""A bundle that is small enough for many runs at a time: two blocks of random weights on 4x6 tokens."""

from pathlib import Path

import torch
import yaml

from edgeprune.base.reading import ROOT
from edgeprune.bundle.target import BucketFamily, load_target
from edgeprune.data.datasets import load_data_set
from edgeprune.data.selection import CalibrationFrames
from edgeprune.export.build import build
from edgeprune.export.inputs import find_inputs
from edgeprune.model.checkpoint import Card, save
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.quantize.calibrate import calibrate, write_calib
from edgeprune.quantize.loading import make_model

SIZE = {"height": 64, "width": 96}
FRAMES = 16


def build_tiny(folder: Path) -> Path:
    """Builds it in `folder`, half a minute of one core; its path."""
    street = load_data_set("street")
    card = Card(
        name="tiny",
        model=ModelSpec.model_validate({"depth": 2, "stem": "patch", **SIZE}),
        policy=PolicySpec(name="svit", options={"first": 1, "keep": [0.6]}),
        names=street.names,
        palette=street.palette,
    )
    torch.manual_seed(0)
    model = make_model(card).eval()
    save(folder / "tiny.safetensors", card, model.state_dict())
    content = yaml.safe_load((ROOT / "data" / "sets" / "street.yaml").read_text())
    for place, split in enumerate(("train", "val", "test")):
        content[split] = {"seed": 1000 * place, "frames": FRAMES, **SIZE}
    data = folder / "street.yaml"
    data.write_text(yaml.safe_dump(content))
    frames = CalibrationFrames(data=str(data), frames=FRAMES)
    write_calib(folder / "calib-tiny.yaml", calibrate(model, frames, "tiny"))
    small = {"buckets": BucketFamily(count=2, multiple=8), "threads": 1, "precision_per_bucket": False}
    target = load_target("onnx-cpu").model_copy(update=small)
    build(target, find_inputs(folder / "tiny.safetensors", None, None), ["fp32"], folder / "bundle")
    return folder / "bundle"
