"""Nodes that an exported graph does without: those that hand on what they take, and shapes that are changed twice
or in two places.

The exporter reshapes every index before a Gather, though it has one dimension already. A CPU runs such nodes for nothing;
TensorRT takes them out, but the fewer small integer nodes a tail has the less is left to what its builder finds.
"""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference

Kind = tuple[int, tuple[int, ...]]  # type, sizes
IDLE = ("Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
SHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def drop_idle(proto: onnx.ModelProto) -> None:
    """Takes out, in place, what leaves values and shape as they are, and a change of shape that another follows or repeats."""
    kinds = kinds_of(proto)
    graph = proto.graph
    outputs = {value.name for value in graph.output}
    source: dict[str, str] = {}  # of a tensor that is dropped, the one that says the same
    shaped: dict[str, str] = {}  # of a tensor that a change of shape made, the one it was made of
    made: dict[tuple[str, Kind], str] = {}  # of a tensor and a shape, the one that has both
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        node.input[:] = [source.get(name, name) for name in node.input]
        kind = kinds.get(node.output[0])
        if node.op_type in SHAPING and kind is not None:
            first = shaped.get(node.input[0], node.input[0])
            shaped[node.output[0]] = first
            if first != node.input[0]:
                _reshape(graph, node, first, kind[1])
            same = made.setdefault((first, kind), node.output[0])
            if same != node.output[0] and node.output[0] not in outputs:
                source[node.output[0]] = same
                continue
        idle = node.op_type in IDLE and kind is not None and kinds.get(node.input[0]) == kind
        if idle and node.output[0] not in outputs and (node.op_type != "Transpose" or _in_order(node)):
            source[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input} | outputs
    while True:  # a change of shape that nobody reads any more
        kept = [node for node in nodes if used & set(node.output)]
        if len(kept) == len(nodes):
            break
        nodes, used = kept, {name for node in kept for name in node.input} | outputs
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    constants = [tensor.SerializeToString() for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(copies)
    graph.initializer.extend(TensorProto.FromString(constant) for constant in constants)


def kinds_of(proto: onnx.ModelProto) -> dict[str, Kind]:
    """Type and sizes of the tensors whose sizes are all known."""
    graph = shape_inference.infer_shapes(proto).graph
    found = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor_type = value.type.tensor_type
        if tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor_type.shape.dim):
            found[value.name] = (tensor_type.elem_type, tuple(dim.dim_value for dim in tensor_type.shape.dim))
    return found


def _in_order(node: onnx.NodeProto) -> bool:
    [perm] = [list(item.ints) for item in node.attribute if item.name == "perm"] or [[]]
    return perm == sorted(perm) and bool(perm)


def _reshape(graph: onnx.GraphProto, node: onnx.NodeProto, source: str, sizes: tuple[int, ...]) -> None:
    """Makes the node a Reshape of `source` to `sizes`."""
    name = f"{node.output[0]}.shape"
    graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), name))
    del node.input[:], node.attribute[:]
    node.op_type = "Reshape"
    node.input.extend((source, name))
