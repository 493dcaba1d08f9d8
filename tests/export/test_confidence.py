"""The confidence map of a graph: that of PyTorch, in each dialect's types and engines, by the rules of every target."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgeprune.bundle.target import load_target
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.graphs import DenseGraph, GraphFamily, export_dense
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.lint import lint_graph
from edgeprune.export.onnx_session import OnnxSession
from edgeprune.export.parity import measure_parity
from edgeprune.export.spec import describe_build
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.fp16_rounded import round_fp16
from tests import models


@pytest.fixture(scope="module")
def model() -> Segmenter:
    model = models.model(models.card("dense", depth=1, stem="conv"))
    model.head.with_confidence = True
    return model


@pytest.fixture(scope="module")
def graph(model: Segmenter) -> onnx.ModelProto:
    """Of TensorRT's dialect, whose casts other engines run as well."""
    return export_dense(model, "tensorrt")


def expected(model: Segmenter, frame_HW3: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        answers = DenseGraph(model, 1, "onnxruntime")(torch.from_numpy(frame_HW3))
    return [answer.numpy() for answer in answers]


@pytest.mark.parametrize(("fp16", "steps"), [(False, 1), (True, 3)])
def test_a_graph_is_as_sure_as_pytorch(model: Segmenter, graph: onnx.ModelProto, fp16: bool, steps: int) -> None:
    session = OnnxSession(round_fp16(to_fp16(graph)) if fp16 else graph, 1)
    for frame_HW3 in models.frames(2):
        labels_HW, confidence_HW = expected(model, frame_HW3)
        found = session.run({"frame": frame_HW3})
        assert list(found) == ["labels", "confidence"] and found["confidence"].dtype == np.uint8
        assert np.abs(found["confidence"].astype(int) - confidence_HW).max() <= steps and np.ptp(confidence_HW) > 20
        assert (found["labels"] == labels_HW).mean() > (0.98 if fp16 else 0.999)


def test_in_openvino(model: Segmenter, graph: onnx.ModelProto, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'edgeprune[openvino]'")
    onnx.save(graph, tmp_path / "graph.onnx")
    frame_HW3 = models.frames(1)[0]
    found = ENGINES["openvino"].open_graph(tmp_path / "graph.onnx", 1)(frame_HW3)
    assert np.abs(found["confidence"].astype(int) - expected(model, frame_HW3)[1]).max() <= 1


def test_it_passes_the_lint_of_tensorrt(graph: onnx.ModelProto) -> None:
    rules = load_target("jetson-orin").lint
    assert lint_graph("fp32", graph, rules) == lint_graph("fp16", to_fp16(graph), rules) == []


def test_parity_speaks_of_logits(model: Segmenter, graph: onnx.ModelProto) -> None:
    """Steps of a confidence are no error of a logit."""
    (row,) = measure_parity(model, [Bucket("full", ())], "fp32", GraphFamily(graph, {}), models.frames(2), 1)
    assert row.max_abs < 1e-3 and row.label_agreement == 1


def test_a_build_has_it_where_it_was_asked_for(inputs: BuildInputs) -> None:
    """Dense and pruned alike, for they are compared."""
    for asked in (False, True):
        spec = describe_build(load_target("onnx-cpu"), replace(inputs, confidence=asked), ["fp32"])
        assert {spec.model.head.outputs, spec.dense.head.outputs} == {("labels", "confidence")[: 1 + asked]}
