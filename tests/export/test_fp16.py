"""Strongly typed FP16: which types nodes have, that they fit each other, and what the graphs then say."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.base.errors import RunError
from edgeprune.bundle import Bundle
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.fp16_range import LIMIT, measure_range, say_range
from edgeprune.export.graphs import GraphFamily, export_dense
from edgeprune.runtime.engines import ENGINES
from tests import models

FP32, FP16 = TensorProto.FLOAT, TensorProto.FLOAT16


def typed(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor; refuses a node whose inputs don't fit it."""
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    onnx.checker.check_model(model)
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def graphs(bundle: Bundle, precision: str) -> dict[str, onnx.ModelProto]:
    found = bundle.graphs(precision)
    return {name: onnx.load(bundle.path(path)) for name, path in {"trunk": found.trunk, **found.tails}.items()}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_computes_does_so_in_fp16_but_for_what_must_not(orin: Bundle, precision: str) -> None:
    for name, model in graphs(orin, precision).items():
        types = typed(model)
        seen: dict[str, Counter[int]] = {}
        for node in model.graph.node:
            seen.setdefault(node.op_type, Counter())[types[node.input[0]]] += 1
        assert set(seen["LayerNormalization"]) == {FP32}
        for operator in ("Softmax", "MatMul", "Conv", "Resize"):
            assert set(seen.get(operator, {FP16: 1})) == {FP16}, operator
        if "TopK" in seen:
            assert set(seen["TopK"]) == {FP32}
        gates = [
            node
            for node in model.graph.node
            if node.op_type in ("Gemm", "MatMul") and any("policy.gates" in each for each in node.input)
        ]
        assert {types[node.input[0]] for node in gates} <= {FP32} and bool(gates) == (name != "full")
        linears = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul") and node not in gates]
        assert linears and {types[node.output[0]] for node in linears} == {FP16}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_state_is_fp16_scores_are_not_and_labels_come_from_fp32(orin: Bundle, precision: str) -> None:
    for name, model in graphs(orin, precision).items():
        types = typed(model)
        for each in ("tokens", "skip0", "skip1"):
            assert types[each] == FP16
        assert types.get("scores", FP32) == FP32
        if name != "trunk":
            [cast] = [node for node in model.graph.node if node.output[0] == "labels"]
            assert cast.op_type == "Cast" and types[cast.input[0]] == FP32
        else:
            [first] = [node for node in model.graph.node if node.op_type == "Conv"][:1]
            before = {node.op_type for node in model.graph.node if types[node.output[0]] == FP32}
            assert {"Sub", "Div"} <= before and types[first.input[0]] == FP16  # the frame is normalised in FP32


def test_a_tensor_is_cast_once_for_each_type(orin: Bundle) -> None:
    for model in graphs(orin, "int8").values():
        casts = Counter(
            (node.input[0], node.attribute[0].i) for node in model.graph.node if node.name.startswith("cast_")
        )
        assert casts and set(casts.values()) == {1}
        made_by = {name: node for node in model.graph.node for name in node.output}
        for node in model.graph.node:  # nothing goes to FP16 and straight back
            if node.name.startswith("cast_") and node.input[0] in made_by:
                assert not made_by[node.input[0]].name.startswith("cast_")


def test_quantizers_have_fp16_scales_and_weights_still_say_the_same(orin: Bundle, cpu: Bundle) -> None:
    exact = {
        each.name: numpy_helper.to_array(each)
        for model in graphs(cpu, "int8").values()
        for each in model.graph.initializer
    }
    compared = 0
    for model in graphs(orin, "int8").values():
        assert next(each.version for each in model.opset_import if each.domain == "") == 19
        constants = {each.name: each for each in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                continue
            scale = constants[node.input[1]]
            assert scale.data_type == FP16
            if node.input[0] in constants and node.input[0] in exact:
                codes_DF, step_F = numpy_helper.to_array(constants[node.input[0]]), numpy_helper.to_array(scale)
                was_DF = exact[node.input[0]].astype(np.float64) * exact[node.input[1].removesuffix("_fp16")]
                step_F = step_F.astype(np.float64)
                inside_DF = np.abs(codes_DF) < 127
                assert (np.abs(codes_DF * step_F - was_DF) <= 0.5001 * step_F)[inside_DF].all()
                compared += 1
    assert compared > 0


def test_a_scale_that_fp16_has_no_number_for_is_its_least_normal_one() -> None:
    """As that of a channel whose weights are next to nothing: of a scale of 0 an engine makes nothing."""
    steps_F = np.array([0.01, 1e-5, 1e-8 / 127], np.float32)
    codes_DF = np.array([[100, 127, 127], [-3, -127, 90]], np.int8)
    constants: dict[str, np.ndarray] = {"w": codes_DF, "step": steps_F, "zero": np.zeros(3, np.int8)}
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w", "step", "zero"], ["weight"], axis=1),
            helper.make_node("MatMul", ["tokens", "weight"], ["skip0"]),
        ],
        "dead",
        [helper.make_tensor_value_info("tokens", FP32, [3, 2])],
        [helper.make_tensor_value_info("skip0", FP32, [3, 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = to_fp16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    found = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    least = np.finfo(np.float16).tiny
    assert found["step_fp16"].tolist() == [np.float16(0.01), least, least]
    was_DF = codes_DF * steps_F.astype(np.float64)
    now_DF = found["w"] * found["step_fp16"].astype(np.float64)
    assert (np.abs(now_DF - was_DF) <= 0.51 * found["step_fp16"]).all() and not found["w"][:, 2].any()


def test_the_given_graph_stays_as_it_is() -> None:
    proto = export_dense(models.model(models.card("dense", depth=1, stem="conv")), "tensorrt")
    before = proto.SerializeToString()
    converted = to_fp16(proto)
    assert proto.SerializeToString() == before
    assert converted.ByteSize() < 0.6 * proto.ByteSize()


def test_a_region_is_cast_at_its_borders_alone() -> None:
    """x -> LayerNormalization -> TopK: one cast in, none between."""
    constants = [numpy_helper.from_array(np.ones(4, np.float32), "one"), numpy_helper.from_array(np.array([2]), "k")]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["tokens", "one"], ["y"]),
            helper.make_node("LayerNormalization", ["y", "one"], ["z"], axis=-1),
            helper.make_node("TopK", ["z", "k"], ["values", "kept"]),
            helper.make_node("Mul", ["values", "values"], ["skip0"]),
        ],
        "region",
        [helper.make_tensor_value_info("tokens", FP32, [3, 4])],
        [helper.make_tensor_value_info("skip0", FP32, [3, 2])],
        constants,
    )
    model = to_fp16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    assert [node.op_type for node in model.graph.node] == ["Mul", "Cast", "LayerNormalization", "TopK", "Cast", "Mul"]
    types = typed(model)
    assert (types["tokens"], types["skip0"], types["z"], types["values"]) == (FP16, FP16, FP32, FP32)
    assert {each.name: each.data_type for each in model.graph.initializer} == {"one": FP32, "one_fp16": FP16, "k": 7}


# ------------------------------------------------------------------------------------------------ range


def test_the_range_is_that_of_the_activations() -> None:
    """Of a frame through y = 3 x, then z = y - 1000: 765 and 1000."""
    constants = [
        numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("three", 3), ("much", 1000))
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frame"], ["x"], to=FP32),
            helper.make_node("Mul", ["x", "three"], ["y"]),
            helper.make_node("Sub", ["y", "much"], ["z"]),
        ],
        "range",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [2, 2, 3])],
        [helper.make_tensor_value_info("z", FP32, [2, 2, 3])],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    frames_FHW3 = np.stack([np.full((2, 2, 3), value, np.uint8) for value in (0, 255, 7)])
    rows = measure_range(GraphFamily(proto, {}), frames_FHW3, 1)
    assert [(row.where.split()[0], row.largest) for row in rows] == [("Sub", 1000.0), ("Mul", 765.0)]
    assert rows[0].share == pytest.approx(1000 / LIMIT)


def test_the_build_measures_it(orin: Bundle) -> None:
    for precision in ("int8", "fp16"):
        header, first, *rows = orin.path(f"fp16-range-{precision}.csv").read_text().splitlines()
        assert header == "graph,where,largest,share" and len(rows) > 50
        assert 0 < float(first.split(",")[2]) < LIMIT
        text = orin.path("build.log").read_text()
        assert f"{precision}: largest activation" in text and "residual stream" in text
    assert any("residual stream at blocks.2" in line for line in rows)


def test_what_is_beyond_fp16_is_refused(tmp_path: Path) -> None:
    model = models.model(models.card("dense", depth=2, stem="conv"))
    model.blocks[1].mlp.fc2.bias.data[3] = 1e5  # type: ignore[union-attr,operator,index]
    proto = export_dense(model, "tensorrt")
    with pytest.raises(RunError, match=r"activations of 1.* \(trunk: .* at blocks.1.mlp.fc2\) are beyond FP16's 65504"):
        measure_range(GraphFamily(proto, {}), models.frames(1), 1)
    model.blocks[1].mlp.fc2.bias.data[3] = 1e3  # type: ignore[union-attr,operator,index]
    rows = measure_range(GraphFamily(export_dense(model, "tensorrt"), {}), models.frames(1), 1)
    assert say_range(rows).startswith("largest activation 1") and "of FP16's 65504" in say_range(rows)


def test_the_references_are_rounded(orin: Bundle) -> None:
    """A device is held against them; ONNX Runtime left alone answers in FP32."""
    with np.load(orin.path(orin.manifest.references)) as references:
        for precision in ("fp16", "int8"):
            session = ENGINES["onnxruntime-fp16"].open(orin, precision)
            for bucket in orin.manifest.buckets:
                for frame_HW3, label_HW in zip(
                    references["frames"], references[f"{precision}/{bucket.name}"], strict=True
                ):
                    session.start(frame_HW3)
                    assert np.array_equal(session.finish(bucket.name)["labels"], label_HW)
