"""NNCF's algorithms on a graph: the linears of the blocks, and nothing else, become INT8."""

import numpy as np
import onnx
import pytest

from edgeprune.export.graphs import export_bucket
from edgeprune.export.parity import WatchedGraph
from edgeprune.model.policy import Bucket
from edgeprune.quantize.nncf_ptq import quantize_linears_of_graph
from tests import models


@pytest.fixture(scope="module")
def plain() -> onnx.ModelProto:
    model = models.model(models.card(depth=3, stem="conv"))
    return export_bucket(model, Bucket("target", tuple(model.policy.schedule.target_counts)), "onnxruntime")


def operators(model: onnx.ModelProto, operator: str) -> int:
    return sum(node.op_type == operator for node in model.graph.node)


@pytest.mark.parametrize("smooth", [False, True])
def test_the_linears_of_the_blocks_alone(
    plain: onnx.ModelProto, smooth: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plain.SerializeToString()
    quantized = quantize_linears_of_graph(plain, models.frames(4), smooth)
    assert plain.SerializeToString() == before
    assert capsys.readouterr().out == ""  # standard output belongs to --json
    maker = {name: node for node in quantized.graph.node for name in node.output}
    fed = [
        node.op_type
        for node in quantized.graph.node
        if any(name in maker and maker[name].op_type == "DequantizeLinear" for name in node.input)
    ]
    assert fed == ["Gemm"] * 12  # four in each of three blocks
    int8 = [
        tensor for tensor in quantized.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims
    ]
    assert sum(len(tensor.dims) == 2 for tensor in int8) == 12
    # one product by a vector in front of each linear, of blocks and gates, that smoothing has scaled
    assert (operators(quantized, "Mul") > operators(plain, "Mul")) is smooth
    image_HW3 = models.frames(1)[0]
    labels = [np.asarray(WatchedGraph(graph, 1).run({"frame": image_HW3})["labels"]) for graph in (plain, quantized)]
    assert len(np.unique(labels[0])) > 2
    assert (labels[0] == labels[1]).mean() > 0.8
