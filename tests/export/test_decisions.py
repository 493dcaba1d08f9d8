"""What graphs decide, told by their nodes."""

import onnx
from onnx import TensorProto, helper

from edgeprune.export.decisions import answering, decided_from, selecting


def graph() -> onnx.ModelProto:
    """A tail that selects tokens by its first TopK, and gives the best of its answers by the second."""
    node = helper.make_node
    nodes = [
        node("TopK", ["token_scores", "k"], ["most", "kept"], name="gate"),
        node("Gather", ["tokens", "kept"], ["left"]),
        node("TopK", ["left", "k"], ["scores", "at"], name="answer"),
        node("Gather", ["numbers", "at"], ["ids"]),
        node("Cast", ["ids"], ["classes"], to=TensorProto.UINT8),
        node("ArgMax", ["left"], ["best"], axis=0, keepdims=0),
        node("Cast", ["best"], ["labels"], to=TensorProto.UINT8),
    ]
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]) for name in ("tokens", "token_scores")]
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [4]),
        helper.make_tensor_value_info("classes", TensorProto.UINT8, [4]),
        helper.make_tensor_value_info("labels", TensorProto.UINT8, []),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [size], [4] * size) for name, size in (("k", 1), ("numbers", 8))
    ]
    return helper.make_model(helper.make_graph(nodes, "tail", floats, outputs, constants))


def test_a_choice_among_answers_is_no_selection_of_tokens() -> None:
    found = graph().graph
    assert [node.name for node in selecting(found)] == ["gate"]
    assert [node.name for node in answering(found)] == ["answer"]


def test_answers_are_decided_from_what_an_argmax_reads_or_themselves() -> None:
    names = {name: decided_from(graph(), name) for name in ("labels", "classes", "scores")}
    assert names == {"labels": "left", "classes": "classes", "scores": "scores"}
