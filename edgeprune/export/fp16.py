"""From an FP32 graph to a strongly typed one in FP16, for engines that compute in the types the graph states.

What stays in FP32: LayerNormalization (its sums overflow half a float's range), what turns the frame into network input, the
gates and whatever makes scores of them or of attention, from the trunk to each TopK (scores are compared with thresholds and
with each other: the attention that one of 768 tokens receives is about 0.0013, of which FP16 has three digits), what makes
answers in floats of the last products, and what follows the ArgMax or TopK of the answer. Softmax is in FP16 between its two
products, where TensorRT fuses all three and sums in FP32. A Cast stands where the type changes, once per tensor and type: a
converter that puts Casts around every node of a region rounds inside of it.
"""

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgeprune.bundle.memory import DUE, NEW
from edgeprune.export.decisions import PRODUCTS, answering, selecting
from edgeprune.runtime.engines.bound import COUNT, SCORES, TOKEN_SCORES

FP32, FP16 = TensorProto.FLOAT, TensorProto.FLOAT16
OPSET = 19  # the first whose QuantizeLinear takes FP16; TensorRT 10.3's parser reads up to 20
IN_FP32 = ("LayerNormalization", "TopK")
ALWAYS_FP32 = {"Resize": (1, 2)}  # inputs that the standard has in FP32: `roi` and `scales`
OF_GATES = (SCORES, TOKEN_SCORES)  # inputs and outputs that stay in FP32
# how the names of the others begin that a trunk hands to its tails, and a frame to the next
STATE = ("tokens", "skip", "seen", "final", "keys", "values", NEW)
GATES = "policy."  # how the names of a policy's parameters begin

Edges = dict[str, list[onnx.NodeProto]]


def to_fp16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph, in FP16."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for domain in model.opset_import:  # from 18 to 19 operators gained types alone
        if domain.domain in ("", "ai.onnx"):
            domain.version = max(domain.version, OPSET)
    _round_scales(model)
    _Typing(model.graph, float_tensors(model)).retype()
    return model


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all tensors in FP32."""
    graph = shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    return {value.name for value in values if value.type.tensor_type.elem_type == FP32} | {
        tensor.name for tensor in graph.initializer if tensor.data_type == FP32
    }


class _Typing:
    """Gives every node a type, and casts where a node reads the other one."""

    def __init__(self, graph: onnx.GraphProto, floats: set[str]):
        self.graph, self.floats = graph, floats
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.type_of: dict[str, int] = {}  # of tensors in FP32 before, what they are now
        self.made: dict[tuple[str, int], str] = {}  # casts and converted constants
        self.nodes: list[onnx.NodeProto] = []

    def retype(self) -> None:
        graph = self.graph
        kept = _kept_in_fp32(graph)
        for value in graph.input:
            if value.name in self.floats:
                self._declare(value, FP32 if value.name in (*OF_GATES, DUE) else FP16)
        for node in graph.node:
            exact = node.op_type == "ArgMax" and self.type_of.get(node.input[0]) == FP32  # an exit's logits
            self._node(node, FP32 if exact or node.output[0] in kept or node.op_type in IN_FP32 else FP16)
        for value in graph.output:
            if value.name in self.floats:
                self._output(value)
        del graph.node[:], graph.value_info[:], graph.initializer[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        graph.initializer.extend(tensor for name, tensor in self.constants.items() if name in used)

    def _declare(self, value: onnx.ValueInfoProto, wanted: int) -> None:
        value.type.tensor_type.elem_type = wanted
        self.type_of[value.name] = wanted

    def _node(self, node: onnx.NodeProto, wanted: int) -> None:
        for index, name in enumerate(node.input):
            if name in self.floats:
                node.input[index] = self._as(name, FP32 if index in ALWAYS_FP32.get(node.op_type, ()) else wanted)
        for item in node.attribute:
            if node.op_type == "Cast" and item.name == "to" and item.i == FP32:
                item.i = wanted
            if item.name == "value" and item.t.data_type == FP32:  # Constant, ConstantOfShape
                item.t.CopyFrom(_converted(item.t, wanted, item.t.name))
        self.nodes.append(node)
        self.type_of |= {name: wanted for name in node.output if name in self.floats}

    def _as(self, name: str, wanted: int) -> str:
        """The name of the tensor in the wanted type."""
        if self.type_of.get(name, FP32) == wanted:
            return name
        key = (name, wanted)
        if key not in self.made:
            self.made[key] = made = f"{name}_fp{16 if wanted == FP16 else 32}"
            if name in self.constants:
                self.constants[made] = _converted(self.constants[name], wanted, made)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [made], f"cast_{made}", to=wanted))
        return self.made[key]

    def _output(self, value: onnx.ValueInfoProto) -> None:
        """Scores and answers leave in FP32, the state as it was computed."""
        found = self.type_of.get(value.name, FP32)
        if not value.name.startswith(STATE) and found != FP32:
            for node in self.nodes:
                node.output[:] = [f"{name}_fp16" if name == value.name else name for name in node.output]
                node.input[:] = [f"{name}_fp16" if name == value.name else name for name in node.input]
            self.nodes.append(
                helper.make_node("Cast", [f"{value.name}_fp16"], [value.name], f"cast_{value.name}", to=FP32)
            )
            found = FP32
        value.type.tensor_type.elem_type = found


def _converted(tensor: TensorProto, wanted: int, name: str) -> TensorProto:
    dtype = np.float16 if wanted == FP16 else np.float32
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), name)


def _kept_in_fp32(graph: onnx.GraphProto) -> set[str]:
    """First outputs of the nodes that stay in FP32 by where they stand."""
    readers: Edges = {}
    writers: Edges = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
        for name in node.output:
            writers.setdefault(name, []).append(node)
    ends = _of("TopK", "ArgMax")
    frame = _reach(["frame"], readers, lambda node: node.output, stop=_of("Conv"))
    parameters = [tensor.name for tensor in graph.initializer if tensor.name.startswith(f"model.{GATES}")]
    after_gates = _reach(parameters, readers, lambda node: node.output, stop=ends)
    chosen = [node.input[0] for node in selecting(graph)]
    chosen += [value.name for value in graph.output if value.name in (*OF_GATES, COUNT)]
    before_choice = _reach(chosen, writers, lambda node: node.input, stop=_of("LayerNormalization", "TopK", "ArgMax"))
    answers = answering(graph)
    decided = [*chosen, *(node.input[0] for node in answers), *_float_answers(graph)]
    # what the blocks themselves hand on is no score: the residual stream, the trunk's tokens and skips
    handed_on = {node.input[0] for node in graph.node if node.op_type == "LayerNormalization"}
    handed_on |= {value.name for value in graph.output} - set(decided)

    def made_by_a_block(node: onnx.NodeProto) -> bool:
        products = [each for name in node.input for each in writers.get(name, []) if each.op_type == "MatMul"]
        return (
            node.op_type in (*PRODUCTS, "Softmax", "LayerNormalization", "TopK", "ArgMax")
            or node.output[0] in handed_on
            or (node.op_type == "Add" and bool(products))  # a product and its bias
        )

    scores = _reach(decided, writers, lambda node: node.input, stop=made_by_a_block)
    labels = [name for node in graph.node if node.op_type == "ArgMax" or node in answers for name in node.output]
    after_labels = _reach(labels, readers, lambda node: node.output, stop=_of())
    return frame | (after_gates & before_choice) | scores | after_labels


def _float_answers(graph: onnx.GraphProto) -> list[str]:
    """The outputs in floats that are no state."""
    floats = (value.name for value in graph.output if value.type.tensor_type.elem_type == FP32)
    return [name for name in floats if not name.startswith(STATE)]


def _of(*operators: str) -> Callable[[onnx.NodeProto], bool]:
    return lambda node: node.op_type in operators


def _reach(
    names: Iterable[str],
    edges: Edges,
    onward: Callable[[onnx.NodeProto], Iterable[str]],
    stop: Callable[[onnx.NodeProto], bool],
) -> set[str]:
    """First outputs of the nodes that are reached from tensors along `edges`, up to and without those of `stop`."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        for node in edges.get(waiting.pop(), []):
            if node.output[0] not in found and not stop(node):
                found.add(node.output[0])
                waiting += onward(node)
    return found


def _round_scales(model: onnx.ModelProto) -> None:
    """Rounds the scales of Q/DQ to FP16 and the INT8 weights anew, so that codes and scales still say the same weights. The
    least is FP16's smallest normal number: that of a channel of weights next to nothing would be 0, or without a reciprocal."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    rounded: dict[str, np.ndarray] = {}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = constants[node.input[1]]
        if scale.name not in rounded:
            exact = numpy_helper.to_array(scale)
            rounded[scale.name] = exact.astype(np.float16).clip(np.finfo(np.float16).tiny).astype(np.float32)
            weight = constants.get(node.input[0])
            if weight is not None and weight.data_type == TensorProto.INT8:
                values = numpy_helper.to_array(weight).astype(np.float64) * exact
                codes = np.clip(np.rint(values / rounded[scale.name]), -127, 127).astype(np.int8)
                weight.CopyFrom(numpy_helper.from_array(codes, weight.name))
            scale.CopyFrom(numpy_helper.from_array(rounded[scale.name], scale.name))
