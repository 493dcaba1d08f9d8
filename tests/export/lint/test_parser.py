"""What TensorRT's parser refuses: a fault of each kind of fact is found by the lint, and refused by the tests' TensorRT."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune.export.lint import lint_graph
from edgeprune.export.lint import parser_table as table
from edgeprune.export.lint.parser import CHECKS, refusals
from tests.runtime.engines import fake_tensorrt
from tests.runtime.engines.fake_cuda import FakeCudart

FLOAT, UINT8, INT64, DOUBLE = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.DOUBLE
RULE = ["parser-takes-it"]
node = helper.make_node


def graph(
    *nodes: onnx.NodeProto,
    inputs: Mapping[str, tuple[int, list[int]]] | None = None,
    outputs: Mapping[str, tuple[int, list[int]]] | None = None,
    opset: int = 19,
    **constants: Any,
) -> onnx.ModelProto:
    """A graph, by default from `x` (16, 8) to `y` (16, 8), both in FLOAT. Nodes get their operator's name."""
    for each in nodes:
        each.name = each.op_type.lower()
    ins, outs = (
        [helper.make_tensor_value_info(name, kind, sizes) for name, (kind, sizes) in given.items()]
        for given in (inputs or {"x": (FLOAT, [16, 8])}, outputs or {"y": (FLOAT, [16, 8])})
    )
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(list(nodes), "g", ins, outs, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def frame(*nodes: onnx.NodeProto, out: int = FLOAT, sizes: tuple[int, ...] = (8, 16, 3)) -> onnx.ModelProto:
    """From a UINT8 frame (8, 16, 3) to `y`."""
    return graph(*nodes, inputs={"x": (UINT8, [8, 16, 3])}, outputs={"y": (out, list(sizes))})


def dequantized(**changes: Any) -> onnx.ModelProto:
    """x DQ(W): weights (8, 4) with a step for each of four output channels; `changes` replace constants or the axis."""
    given: dict[str, Any] = {
        "w": np.ones((8, 4), np.int8),
        "step": np.full(4, 0.1, np.float32),
        "zero": np.zeros(4, np.int8),
    }
    axis = changes.pop("axis", 1)
    return graph(
        node("DequantizeLinear", ["w", "step", "zero"], ["dw"], axis=axis),
        node("MatMul", ["x", "dw"], ["y"]),
        outputs={"y": (FLOAT, [16, 4])},
        **(given | changes),
    )


def scattered(indices: np.ndarray) -> onnx.ModelProto:
    return graph(
        node("ScatterElements", ["x", "at", "new"], ["y"]), at=indices, new=np.zeros(indices.shape, np.float32)
    )


def resized(**attributes: Any) -> onnx.ModelProto:
    four = {"x": (FLOAT, [1, 2, 4, 4])}, {"y": (FLOAT, [1, 2, 8, 8])}
    made = node("Resize", ["x", "", "scales"], ["y"], **attributes)
    return graph(made, inputs=four[0], outputs=four[1], scales=np.array([1, 1, 2, 2], np.float32))


def best(k: int, axis: int, **attributes: Any) -> onnx.ModelProto:
    sizes = [16, 4000]
    made = node("TopK", ["x", "k"], ["y", "at"], axis=axis, **attributes)
    return graph(made, inputs={"x": (FLOAT, sizes)}, outputs={"y": (FLOAT, [16, k])}, k=np.array([k]))


# what is wrong -> a graph with it, the line that says so, one without it
FAULTS: dict[str, tuple[onnx.ModelProto, str, onnx.ModelProto]] = {
    "operator": (
        graph(node("Det", ["x"], ["y"]), inputs={"x": (FLOAT, [4, 4])}, outputs={"y": (FLOAT, [])}),
        "det: Det: no importer",
        graph(node("Erf", ["x"], ["y"])),
    ),
    "type": (
        graph(node("Erf", ["x"], ["y"]), inputs={"x": (DOUBLE, [16, 8])}, outputs={"y": (DOUBLE, [16, 8])}),
        "erf: Erf: input 0 (x) is DOUBLE, allowed FLOAT, FLOAT16, BFLOAT16",
        graph(node("Erf", ["x"], ["y"])),
    ),
    "type of another input": (
        graph(
            node("Cast", ["x"], ["at"], to=FLOAT),
            node("Where", ["if", "x", "x"], ["y"]),
            inputs={"x": (FLOAT, [16, 8]), "if": (FLOAT, [16, 8])},
        ),
        "where: Where: input 0 (if) is FLOAT, allowed BOOL",
        graph(
            node("Where", ["if", "x", "x"], ["y"]),
            inputs={"x": (FLOAT, [16, 8]), "if": (TensorProto.BOOL, [16, 8])},
        ),
    ),
    "type of a cast": (
        graph(node("Cast", ["x"], ["y"], to=DOUBLE), outputs={"y": (DOUBLE, [16, 8])}),
        "cast: Cast: to DOUBLE, allowed",
        graph(node("Cast", ["x"], ["y"], to=INT64), outputs={"y": (INT64, [16, 8])}),
    ),
    "uint8 read by another than a cast": (
        frame(node("Transpose", ["x"], ["t"], perm=[2, 0, 1]), node("Cast", ["t"], ["y"], to=FLOAT), sizes=(3, 8, 16)),
        "transpose: Transpose: input 0 (x) is UINT8, allowed",
        frame(node("Cast", ["x"], ["t"], to=FLOAT), node("Transpose", ["t"], ["y"], perm=[2, 0, 1]), sizes=(3, 8, 16)),
    ),
    "uint8 between": (
        graph(node("Cast", ["x"], ["t"], to=UINT8), node("Cast", ["t"], ["y"], to=FLOAT)),
        "cast: Cast: makes UINT8 (t), which is no output of the graph",
        graph(node("Cast", ["x"], ["y"], to=UINT8), outputs={"y": (UINT8, [16, 8])}),
    ),
    "uint8 output of another than a cast": (
        frame(node("Identity", ["x"], ["y"]), out=UINT8),
        "identity: Identity: makes UINT8 (y), which a Cast alone may",
        frame(node("Cast", ["x"], ["y"], to=FLOAT)),
    ),
    "opset": (
        graph(node("Erf", ["x"], ["y"]), opset=21),
        "opset 21, TensorRT 10.0 reads 9 to 20",
        graph(node("Erf", ["x"], ["y"]), opset=20),
    ),
    "Attribute": (
        resized(mode="cubic"),
        "resize: Resize: mode='cubic', allowed 'nearest', 'linear'",
        resized(mode="linear"),
    ),
    "Attribute by default": (best(5, 1, sorted=0), "topk: TopK: sorted=0, allowed 1", best(5, 1)),
    "Constant": (
        graph(
            node("Cast", ["axes"], ["a"], to=INT64),
            node("ReduceMean", ["x", "a"], ["y"], keepdims=1),
            inputs={"x": (FLOAT, [16, 8]), "axes": (TensorProto.INT32, [1])},
            outputs={"y": (FLOAT, [16, 1])},
        ),
        "reducemean: ReduceMean: input 1 (a) is computed, expected a constant",
        graph(
            node("ReduceMean", ["x", "axes"], ["y"], keepdims=1), outputs={"y": (FLOAT, [16, 1])}, axes=np.array([1])
        ),
    ),
    "Zero": (
        dequantized(zero=np.ones(4, np.int8)),
        "dequantizelinear: DequantizeLinear: input 2 (zero) is not 0",
        dequantized(),
    ),
    "Zero, as many": (
        dequantized(zero=np.zeros(1, np.int8)),
        "DequantizeLinear: 1 zero points for 4 scales",
        dequantized(),
    ),
    "Positive": (
        dequantized(step=np.array([0.1, 0, 0.1, 0.1], np.float32)),
        "DequantizeLinear: input 1 is not positive everywhere",
        dequantized(),
    ),
    "PerAxis": (dequantized(axis=0), "DequantizeLinear: 4 scales for 8 steps along axis 0", dequantized(axis=1)),
    "AtMost": (best(3841, 1), "topk: TopK: 3841, at most 3840", best(3840, 1)),
    "Ranks": (
        graph(
            node("Gemm", ["x", "w"], ["y"]),
            inputs={"x": (FLOAT, [1, 16, 8])},
            outputs={"y": (FLOAT, [1, 16, 8])},
            w=np.ones((8, 8), np.float32),
        ),
        "gemm: Gemm: input 0 has 3 dimensions, allowed 2",
        graph(node("Gemm", ["x", "w"], ["y"]), w=np.ones((8, 8), np.float32)),
    ),
    "SameRank": (
        scattered(np.zeros(3, np.int64)),
        "scatterelements: ScatterElements: input 1 has 1 dimensions, input 0 has 2",
        scattered(np.zeros((3, 8), np.int64)),
    ),
    "SameRank, none longer": (
        scattered(np.zeros((17, 8), np.int64)),
        "ScatterElements: input 1 is (17, 8), larger than input 0 (16, 8)",
        scattered(np.zeros((16, 8), np.int64)),
    ),
    "Outputs": (
        graph(node("LayerNormalization", ["x", "one"], ["y", "mean"], axis=-1), one=np.ones(8, np.float32)),
        "layernormalization: LayerNormalization: 2 outputs, at most 1",
        graph(node("LayerNormalization", ["x", "one"], ["y"], axis=-1), one=np.ones(8, np.float32)),
    ),
}


def test_there_is_a_fault_of_each_kind() -> None:
    kinds = {type(rule) for rules in table.RESTRICTIONS.values() for rule in rules}
    assert kinds == set(CHECKS)
    assert {kind.__name__ for kind in kinds} <= set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_lint_finds_it_and_nothing_where_it_is_not(fault: str) -> None:
    bad, line, good = FAULTS[fault]
    found = lint_graph("g", bad, RULE)
    assert any(line in each for each in found), found
    assert lint_graph("g", good, RULE) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fake_refuses_it_and_takes_the_other(fault: str, tmp_path: Path) -> None:
    bad, line, good = FAULTS[fault]
    trt = fake_tensorrt.make("10.3.0", FakeCudart())
    logger = trt.Logger()
    for name, model in (("bad", bad), ("good", good)):
        onnx.save(model, tmp_path / f"{name}.onnx")
        parser = trt.OnnxParser(trt.Builder(logger).create_network(2), logger)
        assert parser.parse_from_file(str(tmp_path / f"{name}.onnx")) == (name == "good")
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        assert any(line.replace("10.0 reads", "10.3 reads") in reason for reason in reasons) == (name == "bad")


def test_what_a_later_version_takes() -> None:
    made = graph(
        node("STFT", ["x", "step", "", "length"], ["y"]),
        inputs={"x": (FLOAT, [1, 64, 1])},
        outputs={"y": (FLOAT, [1, 7, 9, 2])},
        step=np.array(8),
        length=np.array(16),
    )
    assert list(refusals(made, (10, 4))) == ["stft: STFT: no importer before 10.5 [operators.md of 10.15]"]
    assert list(refusals(made, (10, 5))) == []
    assert list(refusals(graph(node("Erf", ["x"], ["y"]), opset=21), (10, 16))) == []


def test_every_fact_names_its_place() -> None:
    for operator, rules in table.RESTRICTIONS.items():
        assert operator in table.TYPES
        assert all(".md" in rule.source or ".cpp" in rule.source for rule in rules), operator
    assert set(table.OTHER_INPUTS) | set(table.SINCE) <= set(table.TYPES)
