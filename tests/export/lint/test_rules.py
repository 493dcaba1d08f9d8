"""Each rule fires on a small bad graph and is silent on a good one."""

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import load_target
from edgeprune.export.lint import RULES, lint_graph

FLOAT, INT8, UINT8, INT64 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT64
node = helper.make_node


def graph(
    nodes: list[onnx.NodeProto],
    shape: list[Any] | None = (16, 8),  # type: ignore[assignment]
    *,
    opset: int = 18,
    ir: int = 10,
    domains: tuple[str, ...] = (),
    out: int = FLOAT,
    **constants: Any,
) -> onnx.ModelProto:
    """A graph from `x` to `y`; `constants` become initializers. Nodes get their operator's name."""
    for item in nodes:
        item.name = item.name or item.op_type.lower()
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", FLOAT, shape)],
            [helper.make_tensor_value_info("y", out, None if shape is None else [16, 8])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)],
        ir_version=ir,
    )


def quantized_linear(**changes: Any) -> onnx.ModelProto:
    """DQ(Q(x)) times DQ(W), as the exporter writes it; `changes` replace constants or the axis."""
    constants: dict[str, Any] = {
        "step": np.float32(0.1),
        "zero": np.int8(0),
        "w": np.ones((8, 8), np.int8),
        "w_step": np.full(8, 0.1, np.float32),
        "w_zero": np.zeros(8, np.int8),
    }
    axis = changes.pop("axis", 1)
    zero = ["zero"] if changes.pop("zero_point", True) else []
    return graph(
        [
            node("QuantizeLinear", ["x", "step", *zero], ["q"]),
            node("DequantizeLinear", ["q", "step", *zero], ["dq"]),
            node("DequantizeLinear", ["w", "w_step", "w_zero"], ["dw"], name="weight", axis=axis),
            node("MatMul", ["dq", "dw"], ["y"]),
        ],
        **(constants | changes),
    )


def attention(head: int = 64, axis: int = -1, int8: bool = False) -> onnx.ModelProto:
    """softmax(x k) with heads of `head`; `int8` quantizes both sides of the product."""
    sides = ["x", "k"]
    nodes = []
    if int8:
        for side in sides:
            nodes.append(node("QuantizeLinear", [side, "step", "zero"], [f"q_{side}"]))
            nodes.append(node("DequantizeLinear", [f"q_{side}", "step", "zero"], [f"dq_{side}"]))
    made = graph(
        [
            node("Transpose", ["x"], ["k"], perm=[0, 2, 1]),
            *nodes,
            node("MatMul", [f"dq_{side}" for side in sides] if int8 else sides, ["s"]),
            node("Softmax", ["s"], ["y"], axis=axis),
        ],
        [3, 16, head],
        step=np.float32(0.1),
        zero=np.int8(0),
    )
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, [3, 16, 16]))
    return made


def topk(count: int = 4, constant: bool = True, as_node: bool = False) -> onnx.ModelProto:
    nodes = [node("TopK", ["x", "k"], ["y", "i"])]
    if as_node:
        nodes.insert(0, node("Constant", [], ["k"], value=numpy_helper.from_array(np.array([count]))))
        return graph(nodes)
    return graph(nodes, k=np.array([count])) if constant else graph([node("Shape", ["x"], ["k"]), *nodes])


def cast_from(*types: int) -> onnx.ModelProto:
    names = ["x", *(f"c{index}" for index in range(len(types) - 1)), "y"]
    nodes = [node("Cast", [a], [b], to=to) for a, b, to in zip(names, names[1:], types, strict=False)]
    return graph(nodes, out=UINT8)


def scatter(operator: str, **attributes: Any) -> onnx.ModelProto:
    return graph(
        [node(operator, ["x", "i", "u"], ["y"], **attributes)], i=np.zeros((1, 8), np.int64), u=np.zeros((1, 8))
    )


RELU = graph([node("Relu", ["x"], ["y"])])

GOOD = [
    ("static-shapes", RELU),
    ("no-dynamic-operators", RELU),
    ("no-random", RELU),
    ("topk-limit", topk(3840)),
    ("topk-limit", topk(as_node=True)),
    ("no-scatternd", scatter("ScatterElements")),
    ("no-scatternd", scatter("ScatterElements", reduction="none")),
    ("opset", RELU),
    ("opset", graph([node("Relu", ["x"], ["y"])], opset=17, ir=8, domains=("com.microsoft",))),
    ("opset", graph([node("Relu", ["x"], ["y"])], opset=19)),
    ("symmetric-int8", quantized_linear()),
    ("symmetric-int8", quantized_linear(axis=-1)),
    ("folded-weights", quantized_linear()),
    ("attention-shape", attention()),
    ("attention-shape", attention(axis=2)),
    ("attention-shape", quantized_linear()),
    ("no-int32-dequantize", quantized_linear()),
    ("uint8-output-from-float", cast_from(FLOAT, UINT8)),
    ("uint8-output-from-float", RELU),
    ("types-agree", RELU),
    ("types-agree", quantized_linear()),
]

BAD = [
    ("static-shapes", graph([node("Relu", ["x"], ["y"])], ["batch", 8]), "x has no constant size on axis 0"),
    ("static-shapes", graph([node("Relu", ["x"], ["y"])], None), "x has no shape"),
    ("no-dynamic-operators", graph([node("NonZero", ["x"], ["y"])]), "nonzero: NonZero makes shapes depend on data"),
    ("no-dynamic-operators", graph([node("Compress", ["x", "c"], ["y"])], c=np.ones(4, bool)), "Compress"),
    ("no-random", graph([node("RandomUniformLike", ["x"], ["y"])]), "RandomUniformLike is random"),
    ("no-random", graph([node("Bernoulli", ["x"], ["y"])]), "Bernoulli is random"),
    ("topk-limit", topk(3841), "TopK of 3841, over 3840"),
    ("topk-limit", topk(4000, as_node=True), "TopK of 4000, over 3840"),
    ("topk-limit", topk(constant=False), "the K of TopK is not a constant"),
    ("no-scatternd", scatter("ScatterND"), "ScatterND; gather by an inverse map"),
    ("no-scatternd", scatter("ScatterElements", reduction="add"), "ScatterElements with a reduction"),
    ("opset", graph([node("Relu", ["x"], ["y"])], opset=16), "opset 16, expected 17 to 19"),
    ("opset", graph([node("Relu", ["x"], ["y"])], opset=23), "opset 23, expected 17 to 19"),
    ("opset", graph([node("Relu", ["x"], ["y"])], ir=11), "IR version 11, expected at most 10"),
    (
        "opset",
        graph([node("FusedGelu", ["x"], ["y"], domain="com.microsoft")], domains=("com.microsoft",)),
        "operators of domain 'com.microsoft' are known to one engine alone",
    ),
    ("symmetric-int8", quantized_linear(zero=np.int8(3)), "quantizelinear: a zero point that is not 0"),
    ("symmetric-int8", quantized_linear(zero=np.uint8(0)), "quantizelinear: UINT8, expected INT8"),
    ("symmetric-int8", quantized_linear(zero_point=False), "UINT8, which is what no zero point means"),
    ("symmetric-int8", quantized_linear(step=np.full(8, 0.1, np.float32)), "an activation with 8 scales, expected 1"),
    ("symmetric-int8", quantized_linear(step=np.float32(0.0)), "a scale that is not positive"),
    ("symmetric-int8", quantized_linear(step=np.float32("nan")), "a scale that is not positive"),
    ("symmetric-int8", quantized_linear(w=np.ones((8, 6), np.int8)), r"weight: 8 scales for weights \(8, 6\)"),
    ("symmetric-int8", quantized_linear(axis=0), r"weight: scales along axis 0 of weights \(8, 8\), expected the last"),
    (
        "symmetric-int8",
        graph([node("Abs", ["x"], ["s"]), node("QuantizeLinear", ["x", "s", "z"], ["y"])], z=np.int8(0), out=INT8),
        "its scale is not a constant",
    ),
    (
        "folded-weights",
        graph([node("QuantizeLinear", ["w", "s", "z"], ["y"])], w=np.ones(8), s=np.float32(1), z=np.int8(0), out=INT8),
        "quantizes a constant; fold it to INT8",
    ),
    ("attention-shape", attention(axis=1), "Softmax over axis 1, expected the last"),
    ("attention-shape", attention(head=20), "attention heads of 20, expected 16 to 256 in steps of 8"),
    ("attention-shape", attention(head=264), "attention heads of 264"),
    ("attention-shape", attention(int8=True), "an attention product in INT8"),
    ("no-int32-dequantize", quantized_linear(w=np.ones((8, 8), np.int32)), "weight: dequantizes INT32"),
    ("uint8-output-from-float", cast_from(INT64, UINT8), "y: UINT8 that is not cast from float"),
    ("uint8-output-from-float", cast_from(UINT8), "y: UINT8 that is not cast from float"),
    ("types-agree", graph([node("Add", ["x", "h"], ["y"])], h=np.float16(1)), "Add.*has inconsistent type"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "model"), GOOD)
def test_good_graphs_pass(rule: str, model: onnx.ModelProto) -> None:
    assert lint_graph("tail", model, [rule]) == []


@pytest.mark.parametrize(("rule", "model", "words"), BAD, ids=[f"{row[0]}-{index}" for index, row in enumerate(BAD)])
def test_bad_graphs_are_found(rule: str, model: onnx.ModelProto, words: str) -> None:
    findings = lint_graph("tail", model, [rule])
    assert findings and all(line.startswith(f"tail: {rule}: ") for line in findings)
    assert re.search(words, findings[0])


def test_every_rule_has_a_good_and_a_bad_graph() -> None:
    elsewhere = {"parser-takes-it"}  # tests/export/lint/test_parser.py
    assert {row[0] for row in GOOD} == {row[0] for row in BAD} == set(RULES) - elsewhere


def test_rules_of_a_target_are_run_in_turn() -> None:
    model = graph([node("NonZero", ["x"], ["y"])], opset=16)
    findings = lint_graph("trunk", model, ["no-random", "opset", "no-dynamic-operators"])
    assert [line.split(": ")[1] for line in findings] == ["opset", "no-dynamic-operators"]


@pytest.mark.parametrize("target", ["onnx-cpu", "openvino-cpu", "host", "jetson-orin"])
def test_targets_name_rules_that_exist(target: str) -> None:
    assert lint_graph("trunk", RELU, load_target(target).lint) == []


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(InputError, match="unknown lint rule 'opsett'.*did you mean 'opset'"):
        lint_graph("trunk", RELU, ["opsett"])
