"""Nodes that a graph does without, taken out; what it says stays."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from edgeprune.export.simplify import drop_idle

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node


def graph(nodes: list[onnx.NodeProto], out: list[int], **constants: Any) -> onnx.ModelProto:
    """From `x` (6, 4) and `at` (3), INT64, to `y`."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [6, 4]), helper.make_tensor_value_info("at", INT64, [3])],
        [helper.make_tensor_value_info("y", FLOAT, out)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def dropped(model: onnx.ModelProto) -> list[str]:
    """The operators that remain; both graphs say the same."""
    feeds = {"x": np.random.default_rng(0).random((6, 4), np.float32), "at": np.array([4, 0, 5])}

    def answer() -> np.ndarray:
        onnx.checker.check_model(model, full_check=True)
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, feeds)[0])

    before = answer()
    drop_idle(model)
    np.testing.assert_array_equal(answer(), before)
    used = {name for each in model.graph.node for name in each.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used  # no constant is left that nothing reads
    return [each.op_type for each in model.graph.node]


def test_an_index_is_not_reshaped_to_the_shape_it_has() -> None:
    nodes = [node("Reshape", ["at", "all"], ["flat"]), node("Gather", ["x", "flat"], ["y"])]
    assert dropped(graph(nodes, [3, 4], all=np.array([-1]))) == ["Gather"]


def test_shapes_that_follow_each_other_are_one() -> None:
    nodes = [
        node("Reshape", ["x", "deep"], ["a"]),
        node("Unsqueeze", ["a", "first"], ["b"]),
        node("Reshape", ["b", "flat"], ["c"]),
        node("Neg", ["c"], ["y"]),
    ]
    model = graph(nodes, [24], deep=np.array([2, 3, 4]), first=np.array([0]), flat=np.array([-1]))
    assert dropped(model) == ["Reshape", "Neg"] and model.graph.node[0].input[0] == "x"


def test_a_shape_that_is_made_twice_is_made_once() -> None:
    nodes = [
        node("Reshape", ["x", "flat"], ["a"]),
        node("Reshape", ["x", "flat"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    assert dropped(graph(nodes, [24], flat=np.array([24]))) == ["Reshape", "Add"]


def test_casts_to_the_type_and_orders_that_are_no_other_go_and_others_stay() -> None:
    nodes = [
        node("Cast", ["x"], ["a"], to=FLOAT),
        node("Transpose", ["a"], ["b"], perm=[0, 1]),
        node("Gather", ["b", "square"], ["c"]),
        node("Transpose", ["c"], ["d"], perm=[1, 0]),  # of four by four: the shape is the same, the values are not
        node("Neg", ["d"], ["y"]),
    ]
    assert dropped(graph(nodes, [4, 4], square=np.arange(4))) == ["Gather", "Transpose", "Neg"]


def test_an_output_keeps_its_name() -> None:
    nodes = [node("Neg", ["x"], ["a"]), node("Reshape", ["a", "same"], ["y"])]
    model = graph(nodes, [6, 4], same=np.array([6, 4]))
    assert dropped(model) == ["Neg", "Reshape"] and model.graph.output[0].name == "y"
