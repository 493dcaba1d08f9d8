"""The graphs: constant shapes, PyTorch's answers in ONNX Runtime, INT8 that fuses, weights stored once."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from edgeprune.bundle import Bundle
from edgeprune.bundle.target import load_target
from edgeprune.export.graphs import drop_unused_inputs, export_dense, export_family
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.lint import lint_graph
from edgeprune.export.lint.rules import _shapes
from edgeprune.export.parity import measure_parity
from edgeprune.export.spec import reference_and_export_models
from edgeprune.export.weights import ALIGNMENT, WeightFile, write_graph
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calib import read_calib
from edgeprune.quantize.loading import load
from tests import models


def session(path: Path, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    options = options or ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(opened: ort.InferenceSession, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    names = [value.name for value in opened.get_outputs()]
    wanted = {value.name: feeds[value.name] for value in opened.get_inputs()}
    return dict(zip(names, opened.run(None, wanted), strict=True))


def paths(bundle: Bundle, precision: str) -> dict[str, Path]:
    graphs = bundle.graphs(precision)
    return {name: bundle.path(path) for name, path in {"trunk": graphs.trunk, **graphs.tails}.items()}


@pytest.fixture(params=["cpu-fp32", "cpu-int8", "orin-int8", "orin-fp16"])
def built(request: pytest.FixtureRequest) -> tuple[Bundle, str]:
    name, precision = request.param.split("-")
    return request.getfixturevalue(name), precision


def torch_model(inputs: BuildInputs, bundle: Bundle, precision: str) -> Segmenter:
    dialect = load_target(bundle.manifest.target.name).dialect
    return reference_and_export_models(load(inputs.checkpoint)[0], precision, dialect)[0]


def test_inputs_and_outputs(built: tuple[Bundle, str]) -> None:
    bundle, precision = built
    half = load_target(bundle.manifest.target.name).beside_int8 == "fp16"
    for name, path in paths(bundle, precision).items():
        graph = onnx.load(path, load_external_data=False).graph
        shape = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)
        }
        state = {"tokens": [24, 192], "skip0": [1, 16, 24, 32], "skip1": [1, 8, 12, 64], "scores": [24]}
        if name == "trunk":
            assert shape == {"frame": [64, 96, 3], **state, "count": []}
        else:
            if name == "full":
                del state["scores"]
            assert shape == {**state, "labels": [32, 48]}
        assert {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {
            key: {
                "frame": onnx.TensorProto.UINT8,
                "labels": onnx.TensorProto.UINT8,
                "count": onnx.TensorProto.INT32,
                "scores": onnx.TensorProto.FLOAT,
            }.get(key, onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT)
            for key in shape
        }


def test_runs_as_pytorch_does(built: tuple[Bundle, str], inputs: BuildInputs) -> None:
    bundle, precision = built
    model = torch_model(inputs, bundle, precision)
    graphs = {name: session(path) for name, path in paths(bundle, precision).items()}
    assert inputs.calib is not None
    threshold = inputs.calib.thresholds_of(precision)[0]
    for frame_HW3 in models.frames(3, first=300):
        state = run(graphs["trunk"], {"frame": frame_HW3})
        with torch.no_grad():
            x_ND, skips, scores_N = model.trunk(torch.from_numpy(frame_HW3))
            assert scores_N is not None
            np.testing.assert_allclose(state["tokens"], x_ND, atol=2e-3 if precision == "fp32" else 0.5)
            assert abs(int(state["count"]) - int((scores_N > threshold).sum())) <= (0 if precision == "fp32" else 1)
            for bucket in bundle.manifest.buckets:
                labels_HW = run(graphs[bucket.name], state)["labels"]
                logits_1KHW = model.tail(x_ND, skips, scores_N, bucket.counts)
                assert (labels_HW == logits_1KHW.argmax(1)[0].numpy()).mean() > 0.97


def test_a_frame_is_cast_before_anything_else(cpu: Bundle, orin: Bundle) -> None:
    """TensorRT's parser takes a UINT8 input into a Cast alone; so it is in every graph of either dialect."""
    for bundle in (cpu, orin):
        graphs = [bundle.graphs(precision).trunk for precision in bundle.manifest.precisions]
        assert bundle.manifest.dense and bundle.manifest.stem_head
        for path in (*graphs, bundle.manifest.dense, bundle.manifest.stem_head):
            graph = onnx.load(bundle.path(path), load_external_data=False).graph
            assert [node.op_type for node in graph.node if "frame" in node.input] == ["Cast"]


def test_counts_over_the_threshold(cpu: Bundle, inputs: BuildInputs) -> None:
    """What the trunk says is what the calibration said of its own frames."""
    assert inputs.calib is not None
    trunk = session(paths(cpu, "fp32")["trunk"])
    for index, shares_G in enumerate(inputs.calib.occupancy["fp32"][:4]):
        frame_HW3, _ = models.scene(index)
        assert int(run(trunk, {"frame": frame_HW3})["count"]) == round(shares_G[0] * models.N)


def test_no_finding_for_the_other_target_but_its_dialect(cpu: Bundle, orin: Bundle) -> None:
    """The CPU's graphs are TensorRT's but for the INT32 bias, the order of TopK and the cast; TensorRT's pass everywhere."""
    rules = load_target("jetson-orin").lint
    for name, path in paths(orin, "int8").items():
        assert lint_graph(name, onnx.load(path), rules) == []
    found = {
        line.split(": ")[1]
        for name, path in paths(cpu, "int8").items()
        for line in lint_graph(name, onnx.load(path), rules)
    }
    assert found == {"no-int32-dequantize", "uint8-output-from-float", "parser-takes-it"}
    operators = {
        line.split(": ")[3]
        for name, path in paths(cpu, "int8").items()
        for line in lint_graph(name, onnx.load(path), ["parser-takes-it"])
    }
    assert operators == {"DequantizeLinear", "TopK"}


def test_the_lint_sees_the_head_size_of_exported_graphs(cpu: Bundle) -> None:
    model = onnx.load(paths(cpu, "int8")["full"])
    made_by = {name: node for node in model.graph.node for name in node.output}
    products = [made_by[node.input[0]] for node in model.graph.node if node.op_type == "Softmax"]
    shapes = _shapes(model)
    assert [shapes[product.input[0]][-1] for product in products] == [64, 64]


def test_every_quantized_linear_becomes_one_qgemm(cpu: Bundle, tmp_path: Path) -> None:
    for name, path in paths(cpu, "int8").items():
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}.onnx")
        session(path, options)
        graph = onnx.load(tmp_path / f"{name}.onnx", load_external_data=False).graph
        optimised = Counter(node.op_type for node in graph.node)
        blocks = 1 if name == "trunk" else 2
        assert optimised["QGemm"] == 4 * blocks, (name, optimised)
        assert optimised["DequantizeLinear"] == 0
        assert optimised["QuantizeLinear"] == 4 * blocks
        assert optimised["BiasGelu"] + optimised["Gelu"] >= blocks


def test_the_dialect_of_tensorrt(orin: Bundle) -> None:
    for name, path in paths(orin, "int8").items():
        model = onnx.load(path)
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        made_by = {output: node for node in model.graph.node for output in node.output}
        used_by = {node.input[0]: node for node in model.graph.node if node.input}
        linears = [
            node
            for node in model.graph.node
            if node.op_type == "MatMul"
            and made_by.get(node.input[1]) is not None
            and made_by[node.input[1]].op_type == "DequantizeLinear"
        ]
        assert len(linears) == (4 if name == "trunk" else 8)
        for node in linears:
            weight = constants[made_by[node.input[1]].input[0]]
            assert weight.data_type == onnx.TensorProto.INT8 and len(weight.dims) == 2
            assert made_by[made_by[node.input[0]].input[0]].op_type == "QuantizeLinear"
            assert used_by[node.output[0]].op_type == "Add"
        assert not any(tensor.data_type == onnx.TensorProto.INT32 for tensor in constants.values())


def test_no_scatter_of_rows_and_one_topk_for_each_gate_below_the_full_grid(built: tuple[Bundle, str]) -> None:
    bundle, precision = built
    graphs = paths(bundle, precision)
    for bucket in bundle.manifest.buckets:
        operators = Counter(node.op_type for node in onnx.load(graphs[bucket.name]).graph.node)
        assert operators["TopK"] == operators["ScatterElements"] == sum(count < models.N for count in bucket.counts)


# ------------------------------------------------------------------------------------------------ weights


def places(path: Path) -> dict[str, tuple[int, int, int]]:
    """Name of each external constant -> offset, length, type."""
    found = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if tensor.external_data:
            entry = {item.key: item.value for item in tensor.external_data}
            found[tensor.name] = (int(entry["offset"]), int(entry["length"]), tensor.data_type)
    return found


def test_weights_are_stored_once(built: tuple[Bundle, str], inputs: BuildInputs) -> None:
    bundle, precision = built
    parts = {name: places(path) for name, path in paths(bundle, precision).items()}
    tails = [set(part.values()) for name, part in parts.items() if name != "trunk"]
    for part in tails[1:]:  # tails share all they have in common: everything but their own counts
        assert len(part & tails[0]) >= min(len(part), len(tails[0])) - 2
    model = torch_model(inputs, bundle, precision)
    size = bundle.path(f"graphs/{precision}.weights").stat().st_size
    linears = sum(p.numel() for name, p in model.blocks.named_parameters() if p.ndim == 2 and "_quantizer" not in name)
    others = sum(p.numel() for p in model.parameters()) - linears
    beside = 2 if load_target(bundle.manifest.target.name).beside_int8 == "fp16" else 4  # bytes of what is not INT8
    expected = linears * (1 if precision == "int8" else beside) + others * beside
    assert 0.9 * expected < size < 1.15 * expected


def test_a_weight_file_holds_equal_constants_once_and_small_ones_not_at_all(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    large, other, small = random.random(1000), random.random(333).astype(np.float32), np.arange(4)

    def proto(**constants: np.ndarray) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        nodes = [onnx.helper.make_node("Identity", [name], [f"{name}-out"]) for name in constants]
        outputs = [
            onnx.helper.make_tensor_value_info(f"{tensor.name}-out", tensor.data_type, list(tensor.dims))
            for tensor in tensors
        ]
        return onnx.helper.make_model(
            onnx.helper.make_graph(nodes, "g", [], outputs, tensors),
            opset_imports=[onnx.helper.make_opsetid("", 18)],
            ir_version=10,
        )

    first, second = proto(a=large, s=small), proto(b=large.copy(), c=other)
    whole = first.SerializeToString()
    weights = WeightFile(tmp_path / "fp32.weights")
    write_graph(first, tmp_path / "first.onnx", weights)
    write_graph(second, tmp_path / "second.onnx", weights)
    weights.close()
    assert first.SerializeToString() == whole
    assert places(tmp_path / "first.onnx").keys() == {"a"}
    assert places(tmp_path / "first.onnx")["a"] == places(tmp_path / "second.onnx")["b"]
    assert all(offset % ALIGNMENT == 0 for offset, _, _ in places(tmp_path / "second.onnx").values())
    assert (tmp_path / "fp32.weights").stat().st_size == 8000 + other.nbytes
    got = session(tmp_path / "second.onnx").run(None, {})
    assert np.array_equal(got[0], large) and np.array_equal(got[1], other)


# ------------------------------------------------------------------------------------------------ other policies


def test_the_random_policy_exports_as_a_constant_table() -> None:
    model = models.model(models.card("random", depth=2))
    buckets = [Bucket("k8", (8,))]
    family = export_family(model, buckets, [0.5], "onnxruntime")
    (row,) = measure_parity(model, buckets, "fp32", family, models.frames(2), 1)
    assert row.label_agreement > 0.999 and row.selection_agreement == 1.0 and row.max_abs < 1e-2
    assert lint_graph("trunk", family.trunk, ["no-random"]) == []


def test_the_dense_graph_stops_after_some_blocks() -> None:
    model = models.model(models.card("dense", depth=2))
    proto = export_dense(model, "tensorrt", depth=0)
    got = ort.InferenceSession(proto.SerializeToString()).run(None, {"frame": models.frames(1)[0]})[0]
    model.blocks = model.blocks[:0]
    with torch.no_grad():
        expected = model(models.images(1)).raw.argmax(1)[0].numpy()
    assert (got == expected).mean() > 0.999 and got.dtype == np.uint8
    assert not any(node.op_type == "Softmax" for node in proto.graph.node)


def test_inputs_that_nothing_reads_are_dropped() -> None:
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "abc"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["a"], ["c"])], "g", values[:2], values[2:])
    proto = onnx.helper.make_model(graph)
    drop_unused_inputs(proto)
    assert [value.name for value in proto.graph.input] == ["a"]


def test_calibration_beside_the_checkpoint_is_found(inputs: BuildInputs) -> None:
    assert inputs.calib == read_calib(inputs.checkpoint.with_name("calib-qat.yaml"))
    assert inputs.reference is None
