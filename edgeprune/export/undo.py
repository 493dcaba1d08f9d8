"""What each step of graph surgery is worth: one bucket's INT8 graph with one step undone, for `bench --peer`.

Every function takes a graph as `edgeprune.export.peers.join` makes it (ONNX Runtime's dialect), changes it in place, and
leaves what it computes as it was; only `small_labels` gives a larger label map.

Shapes: N tokens, D inputs, F outputs of a linear.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

Array = npt.NDArray[np.generic]


class Editor:
    """Nodes and constants of a graph, by name."""

    def __init__(self, model: onnx.ModelProto):
        self.graph = model.graph
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.maker = {name: node for node in self.nodes for name in node.output}

    def of(self, operator: str) -> list[NodeProto]:
        return [node for node in self.nodes if node.op_type == operator]

    def users(self, tensor: str) -> list[NodeProto]:
        return [node for node in self.nodes if tensor in node.input]

    def constant(self, name: str, value: Array) -> str:
        """Adds a constant; returns its name."""
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def replace(self, new: dict[str, list[NodeProto]], dropped: Iterable[str] = ()) -> None:
        """Writes the graph again: nodes of these names give way to others, or are left out."""
        gone = set(dropped)
        nodes = [
            made.SerializeToString()
            for node in self.nodes
            for made in ([] if node.name in gone else new.get(node.name, [node]))
        ]
        del self.graph.node[:]
        self.graph.node.extend(NodeProto.FromString(node) for node in nodes)

    def int8_linears(self) -> Iterator[tuple[NodeProto, NodeProto, NodeProto]]:
        """(Gemm, DequantizeLinear of its weight, DequantizeLinear of its bias)."""
        for gemm in self.of("Gemm"):
            _, weight, *bias = (self.maker.get(name) for name in gemm.input)
            if weight is not None and bias and bias[0] is not None:
                yield gemm, weight, bias[0]


def zero_points(edit: Editor) -> None:
    """Weights without written zero points: ONNX Runtime does not make an integer GEMM of their linears."""
    for _, weight, _ in edit.int8_linears():
        del weight.input[2:]


def integer_bias(edit: Editor) -> None:
    """A float sum behind each product in place of an INT32 bias in it: ONNX Runtime makes no integer GEMM of that."""
    new, dropped = {}, set()
    for gemm, _, bias in edit.int8_linears():
        dropped.add(bias.name)
        codes_F, step_F = (edit.constants[name] for name in bias.input[:2])
        name = edit.constant(f"{gemm.name}.bias", (codes_F * step_F.astype(np.float64)).astype(np.float32))
        product = f"{gemm.name}.product"
        new[gemm.name] = [
            helper.make_node("MatMul", list(gemm.input[:2]), [product], name=product),
            helper.make_node("Add", [product, name], list(gemm.output), name=f"{gemm.name}.sum"),
        ]
    edit.replace(new, dropped)


def one_qkv(edit: Editor) -> None:
    """Three linears for queries, keys and values in place of one and its slices. ONNX Runtime merges their quantizers, and
    codes that several linears share stay signed, which its integer GEMM is slower at."""
    new: dict[str, list[NodeProto]] = {}
    dropped: list[str] = []
    for gemm, weight, bias in edit.int8_linears():
        [view, *more] = edit.users(gemm.output[0])
        parts = edit.users(view.output[0])
        if more or [part.op_type for part in parts] != ["Slice"] * 3:
            continue
        heads = edit.constants[view.input[1]]
        shape = edit.constant(f"{gemm.name}.shape", np.array([heads[0], heads[-2], heads[-1]], np.int64))
        weight_DF, step_F, zero_F = (edit.constants[name] for name in weight.input)
        bias_F, bias_step_F = (edit.constants[name] for name in bias.input)
        width = weight_DF.shape[0]
        dequantize = edit.maker[gemm.input[0]]
        quantize = edit.maker[dequantize.input[0]]
        made = []
        for part in parts:
            first = int(np.ravel(edit.constants[part.input[1]])[0])
            columns, name = slice(first * width, (first + 1) * width), f"{gemm.name}.{first}"
            weights = [edit.constant(f"{name}.weight", weight_DF[:, columns])]
            weights += [edit.constant(f"{name}.step", step_F[columns]), edit.constant(f"{name}.zero", zero_F[columns])]
            biases = [edit.constant(f"{name}.bias", bias_F[columns])]
            biases += [edit.constant(f"{name}.bias_step", bias_step_F[columns])]
            [squeeze] = edit.users(part.output[0])
            made += [
                helper.make_node("QuantizeLinear", list(quantize.input), [f"{name}.codes"], name=f"{name}.q"),
                helper.make_node(
                    "DequantizeLinear", [f"{name}.codes", *dequantize.input[1:]], [f"{name}.x"], name=f"{name}.dq"
                ),
                helper.make_node("DequantizeLinear", weights, [f"{name}.w"], name=f"{name}.dqw", axis=1),
                helper.make_node("DequantizeLinear", biases, [f"{name}.b"], name=f"{name}.dqb", axis=0),
                helper.make_node("Gemm", [f"{name}.x", f"{name}.w", f"{name}.b"], [f"{name}.y"], name=f"{name}.gemm"),
                helper.make_node("Reshape", [f"{name}.y", shape], list(squeeze.output), name=f"{name}.view"),
            ]
            dropped += [part.name, squeeze.name]
        new[gemm.name] = made
        dropped += [view.name, quantize.name, dequantize.name, weight.name, bias.name]
    edit.replace(new, dropped)


def gather(edit: Editor) -> None:
    """Features put back by a ScatterElements of whole rows, in place of a Gather over the inverse permutation."""
    new: dict[str, list[NodeProto]] = {}
    dropped: list[str] = []
    for node in edit.of("Gather"):
        both, places = (edit.maker.get(name) for name in node.input)
        scatter = edit.maker.get(places.input[0]) if places is not None else None
        if both is None or places is None or scatter is None or not _puts_back(edit, both, scatter):
            continue
        tokens, changed = both.input
        chosen, name = scatter.input[1], node.output[0]
        axis = edit.constant(f"{name}.axis", np.array([1], np.int64))
        count = len(edit.constants[scatter.input[2]])
        shape = edit.constant(f"{name}.rows", np.array([count, _width(edit, changed)], np.int64))
        new[node.name] = [
            helper.make_node("Unsqueeze", [chosen, axis], [f"{name}.column"], name=f"{name}.unsqueeze"),
            helper.make_node("Expand", [f"{name}.column", shape], [f"{name}.places"], name=f"{name}.expand"),
            helper.make_node(
                "ScatterElements", [tokens, f"{name}.places", changed], [name], name=f"{name}.scatter", axis=0
            ),
        ]
        dropped += [both.name, places.name, scatter.name]
    edit.replace(new, dropped)


def _puts_back(edit: Editor, both: NodeProto, scatter: NodeProto) -> bool:
    """Whether it is `policies.svit.put_back`: rows 0 to N - 1 are the old tokens, from N on the changed ones."""
    if both.op_type != "Concat" or len(both.input) != 2 or scatter.op_type != "ScatterElements":
        return False
    own_N, changed_K = edit.constants.get(scatter.input[0]), edit.constants.get(scatter.input[2])
    if own_N is None or changed_K is None:
        return False
    rows = np.concatenate((own_N.ravel(), changed_K.ravel()))
    return np.array_equal(rows, np.arange(len(rows)))


def _width(edit: Editor, tensor: str) -> int:
    """Of tokens that a norm takes or a linear gives: the length of the first vector added on the way back."""
    node = edit.maker[tensor]
    while node.op_type != "Gemm":
        node = edit.maker[node.input[-1]]
    return len(edit.constants[edit.maker[node.input[2]].input[0]])


def fused_gelu(edit: Editor) -> None:
    """GELU with a product by 1 / sqrt 2 in place of the quotient that ONNX Runtime's fusion looks for."""
    new = {}
    for erf in edit.of("Erf"):
        quotient = edit.maker[erf.input[0]]
        factor = edit.constant(f"{quotient.name}.factor", 1 / edit.constants[quotient.input[1]])
        new[quotient.name] = [
            helper.make_node("Mul", [quotient.input[0], factor], list(quotient.output), name=quotient.name)
        ]
    edit.replace(new)


def small_labels(edit: Editor) -> None:
    """Logits interpolated to the frame's size before the largest is taken, in place of half of it."""
    argmax = edit.of("ArgMax")[-1]
    scales = edit.constant("whole.scales", np.array([1, 1, 2, 2], np.float32))
    resize = helper.make_node(
        "Resize", [argmax.input[0], "", scales], ["whole"], name="whole", mode="linear",
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    argmax.input[0] = "whole"
    edit.replace({argmax.name: [resize, argmax]})
    [labels] = edit.graph.output
    for axis in labels.type.tensor_type.shape.dim:
        axis.dim_value *= 2


STEPS: dict[str, Callable[[Editor], None]] = {
    "zero-points": zero_points,
    "integer-bias": integer_bias,
    "one-qkv": one_qkv,
    "gather": gather,
    "fused-gelu": fused_gelu,
    "small-labels": small_labels,
}


def undo(model: onnx.ModelProto, step: str) -> onnx.ModelProto:
    """A copy of the graph without that step."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    STEPS[step](Editor(copied))
    return copied
