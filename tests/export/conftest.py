"""One quantized SViT model with its calibration, a bundle of it for each target, built once, and builds from its graphs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgeprune.bundle import Bundle, open_bundle
from edgeprune.bundle.runtime_spec import Parity
from edgeprune.bundle.target import BucketFamily, Target, load_target
from edgeprune.data.selection import CalibrationFrames
from edgeprune.export import build as module
from edgeprune.export.build import build
from edgeprune.export.graphs import GraphFamily
from edgeprune.export.inputs import BuildInputs, find_inputs
from edgeprune.model.checkpoint import save
from edgeprune.quantize.calibrate import calibrate, write_calib
from tests import models
from tests.shared import made_once

Change = Callable[[onnx.ModelProto, dict[str, onnx.ModelProto]], None]


def small(target: str, count: int) -> Target:
    """A shipped target for 24 tokens."""
    update = {"buckets": BucketFamily(count=count, multiple=8), "threads": 1, "precision_per_bucket": False}
    return load_target(target).model_copy(update=update)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> BuildInputs:
    def train(folder: Path) -> None:
        card = models.card(depth=3, stem="conv", quantized=True, keep=[0.6, 0.4])
        model = models.model(card)
        save(folder / "qat.safetensors", card, model.state_dict())
        spec = CalibrationFrames(data=models.write_street(folder, frames=16), frames=16)
        write_calib(folder / "calib-qat.yaml", calibrate(model, spec, "tiny"))

    return find_inputs(made_once(tmp_path_factory, "trained", train) / "qat.safetensors", None, None)


@pytest.fixture(scope="session")
def cpu(inputs: BuildInputs, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = small("onnx-cpu", 3)
    made = made_once(tmp_path_factory, "cpu", lambda folder: build(target, inputs, ["int8", "fp32"], folder / "bundle"))
    return open_bundle(made / "bundle")


@pytest.fixture(scope="session")
def orin(inputs: BuildInputs, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model of random weights is far off in INT8."""
    target = small("jetson-orin", 5).model_copy(update={"parity": Parity(int8=0.9)})
    made = made_once(
        tmp_path_factory, "orin", lambda folder: build(target, inputs, ["int8", "fp16"], folder / "bundle")
    )
    bundle = open_bundle(made / "bundle")
    assert len(bundle.manifest.buckets) > 1
    return bundle


@pytest.fixture
def exported(cpu: Bundle, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change | None], None]:
    """exported(change): builds take the graphs that were exported already, changed on the way."""

    def use(change: Change | None = None) -> None:
        def family(*_: Any) -> GraphFamily:
            graphs = cpu.graphs("fp32")
            trunk = onnx.load(cpu.path(graphs.trunk))
            tails = {name: onnx.load(cpu.path(path)) for name, path in graphs.tails.items()}
            if change:
                change(trunk, tails)
            return GraphFamily(trunk, tails)

        dense = onnx.load(cpu.path(cpu.manifest.dense))
        monkeypatch.setattr(module, "export_family", family)
        monkeypatch.setattr(module, "export_dense", lambda *_, **__: dense)

    return use


def again(inputs: BuildInputs, out: Path) -> None:
    build(small("onnx-cpu", 3), inputs, ["fp32"], out)
