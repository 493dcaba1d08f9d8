"""Baselines: the dense model in INT8 by other means, run and compared with what it was made of."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.data.selection import CalibrationFrames
from edgeprune.export.graphs import export_dense
from edgeprune.export.inputs import BuildInputs
from edgeprune.lab.baselines import BASELINES, export_baselines, export_joined
from edgeprune.model.checkpoint import save
from edgeprune.runtime.engines import ENGINES
from tests import models


def test_peers_are_int8_and_say_nearly_what_the_dense_model_says(tmp_path: Path) -> None:
    card = models.card("dense", depth=2, stem="conv")
    model = models.model(card)
    save(tmp_path / "reference.safetensors", card, model.state_dict())
    frames = CalibrationFrames(data=models.write_street(tmp_path, frames=8), frames=8)
    paths = export_baselines(tmp_path / "reference.safetensors", frames, "onnxruntime", tmp_path / "baselines")
    assert [path.stem for path in paths] == list(BASELINES)
    dense = tmp_path / "dense.onnx"
    onnx.save(export_dense(model, "onnxruntime"), dense)
    engine = ENGINES["onnxruntime"]
    images_FHW3 = models.frames(4)
    expected = np.stack([engine.open_graph(dense)(image_HW3)["labels"] for image_HW3 in images_FHW3])
    for path in paths:
        proto = onnx.load(path)
        assert sum(node.op_type == "QuantizeLinear" for node in proto.graph.node) >= 8
        assert any(tensor.data_type == onnx.TensorProto.INT8 for tensor in proto.graph.initializer)
        graph = engine.open_graph(path)
        found = np.stack([graph(image_HW3)["labels"] for image_HW3 in images_FHW3])
        assert 0.8 < (found == expected).mean() <= 1


def test_a_sparse_checkpoint_is_refused(inputs: BuildInputs, tmp_path: Path) -> None:
    frames = CalibrationFrames(data="street", frames=8)
    with pytest.raises(InputError, match="svit in INT8; a baseline is made of a dense FP32 checkpoint"):
        export_baselines(inputs.checkpoint, frames, "onnxruntime", tmp_path / "baselines")


def test_a_joined_graph_says_what_trunk_and_tail_say(cpu: Bundle, tmp_path: Path) -> None:
    paths = export_joined(cpu, "int8", tmp_path / "baselines")
    names = [bucket.name for bucket in cpu.manifest.buckets]
    assert [path.name for path in paths] == [f"joined-{name}-int8.onnx" for name in names]
    engine = ENGINES["onnxruntime"]
    opened = engine.open(cpu, "int8", threads=1)
    for path, name in zip(paths, names, strict=True):
        joined = engine.open_graph(path, 1)
        for image_HW3 in models.frames(2):
            opened.start(image_HW3)
            np.testing.assert_array_equal(joined(image_HW3)["labels"], opened.finish(name)["labels"])


def test_what_cannot_be_joined_is_refused(cpu: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown precision 'int4'.*int8"):
        export_joined(cpu, "int4", tmp_path / "baselines")
