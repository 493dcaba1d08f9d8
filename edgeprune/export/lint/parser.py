"""Why TensorRT's ONNX parser would refuse a graph, by the facts of `parser_table`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgeprune.export.lint import parser_table as table
from edgeprune.export.lint.parser_table import Version

OLDEST, NEWEST = (10, 0), (99, 0)


class Tensors:
    """Types, sizes (None: not known; 0: one side is not) and constant values of a graph's tensors, by name."""

    def __init__(self, model: onnx.ModelProto):
        graph = onnx.shape_inference.infer_shapes(model).graph
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            for item in node.attribute:
                if node.op_type == "Constant" and item.name == "value":
                    self.constants[node.output[0]] = item.t
        self.outputs = {value.name for value in graph.output}
        self.types = {name: tensor.data_type for name, tensor in self.constants.items()}
        self.sizes = {name: tuple(tensor.dims) for name, tensor in self.constants.items()}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self.types[value.name] = value.type.tensor_type.elem_type
            if value.type.tensor_type.HasField("shape"):
                self.sizes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)

    def type_of(self, name: str) -> str | None:
        kind = self.types.get(name, TensorProto.UNDEFINED)
        return None if kind == TensorProto.UNDEFINED else str(TensorProto.DataType.Name(kind))

    def values(self, name: str) -> np.ndarray | None:
        return np.asarray(numpy_helper.to_array(self.constants[name])) if name in self.constants else None


def refusals(model: onnx.ModelProto, version: Version | None = None) -> Iterator[str]:
    """One line per reason, `<node>: <operator>: <what> [<source>]`.

    Args:
        version: of TensorRT; None: whatever any version from 10.0 on would refuse.
    """
    versions = [version] if version else [OLDEST, NEWEST]
    yield from (line for each in versions for line in _opset(model, each))
    tensors = Tensors(model)
    for node in model.graph.node:
        name = node.name or f"node of {node.output[0]}"
        for line in dict.fromkeys(line for each in versions for line in _node(node, tensors, each)):
            yield f"{name}: {node.op_type}: {line}"


def _opset(model: onnx.ModelProto, version: Version) -> Iterator[str]:
    least, most = next(span for since, span in reversed(table.OPSETS.items()) if version >= since)
    for domain in model.opset_import:
        if domain.domain in ("", "ai.onnx") and not least <= domain.version <= most:
            yield f"opset {domain.version}, TensorRT {version[0]}.{version[1]} reads {least} to {most} [operators.md]"


def _node(node: onnx.NodeProto, tensors: Tensors, version: Version) -> Iterator[str]:
    if node.op_type not in table.TYPES or version < table.SINCE.get(node.op_type, OLDEST):
        since = table.SINCE.get(node.op_type)
        yield f"no importer{f' before {since[0]}.{since[1]}' if since else ''} [operators.md of 10.15]"
        return
    yield from _types(node, tensors)
    for restriction in table.RESTRICTIONS.get(node.op_type, ()):
        found = CHECKS[type(restriction)](restriction, node, tensors)
        if found is not None:
            yield f"{found} [{restriction.source}]"


def _types(node: onnx.NodeProto, tensors: Tensors) -> Iterator[str]:
    own = table.TYPES[node.op_type]
    others = table.OTHER_INPUTS.get(node.op_type, {})
    for index, name in enumerate(node.input):
        kind, allowed = tensors.type_of(name), others.get(index, own)
        if name and kind is None:
            yield f"the type of input {index} ({name}) is not known"
        elif name and kind not in allowed:
            yield f"input {index} ({name}) is {kind}, allowed {', '.join(allowed)} [operators.md of 10.15]"
    for name in node.output:
        kind = tensors.type_of(name)
        if kind == table.UINT8 and node.op_type != "Constant" and name not in tensors.outputs:
            yield f"makes UINT8 ({name}), which is no output of the graph [ModelImporter.cpp, parseNode]"
        elif kind == table.UINT8 and kind not in own:
            yield f"makes UINT8 ({name}), which a Cast alone may [operators.md of 10.15]"
        elif node.op_type == "Cast" and kind is not None and kind not in own:
            yield f"to {kind}, allowed {', '.join(own)} [operators.md of 10.15]"


# ------------------------------------------------------------------------------------------------ restrictions


def _input(node: onnx.NodeProto, index: int) -> str:
    return node.input[index] if index < len(node.input) else ""


def _value(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else tuple(value) if isinstance(value, list) else value
    return default


def _attribute(rule: table.Attribute, node: onnx.NodeProto, tensors: Tensors) -> str | None:
    value = _value(node, rule.name, rule.default)
    if value == "" or value in rule.allowed:
        return None
    return f"{rule.name}={value!r}, allowed {', '.join(map(repr, rule.allowed))}"


def _constant(rule: table.Constant, node: onnx.NodeProto, tensors: Tensors) -> str | None:
    name = _input(node, rule.index)
    return (
        f"input {rule.index} ({name}) is computed, expected a constant"
        if name and name not in tensors.constants
        else None
    )


def _zero(rule: table.Zero, node: onnx.NodeProto, tensors: Tensors) -> str | None:
    name = _input(node, rule.index)
    values, scales = tensors.values(name), tensors.values(_input(node, 1))
    if values is None:
        return f"input {rule.index} ({name}) is computed, expected zeros" if name else None
    if np.any(values):
        return f"input {rule.index} ({name}) is not 0"
    if scales is not None and values.size != scales.size:
        return f"{values.size} zero points for {scales.size} scales"
    return None


def _positive(rule: table.Positive, node: onnx.NodeProto, tensors: Tensors) -> str | None:
    values = tensors.values(_input(node, rule.index))
    return None if values is None or np.all(values > 0) else f"input {rule.index} is not positive everywhere"


def _per_axis(rule: table.PerAxis, node: onnx.NodeProto, tensors: Tensors) -> str | None:
    values, sizes = tensors.values(_input(node, rule.index)), tensors.sizes.get(_input(node, 0))
    if values is None or values.size == 1 or sizes is None:
        return None
    axis = _value(node, "axis", rule.default_axis)
    if not -len(sizes) <= axis < len(sizes):
        return f"axis={axis} of {len(sizes)} dimensions"
    if values.ndim == 1 and values.size != sizes[axis]:
        return f"{values.size} scales for {sizes[axis]} steps along axis {axis}"
    return None


def _at_most(rule: table.AtMost, node: onnx.NodeProto, tensors: Tensors) -> str | None:
    values = tensors.values(_input(node, rule.index))
    return None if values is None or np.all(values <= rule.limit) else f"{values.max()}, at most {rule.limit}"


def _ranks(rule: table.Ranks, node: onnx.NodeProto, tensors: Tensors) -> str | None:
    for index in rule.indices:
        sizes = tensors.sizes.get(_input(node, index))
        if sizes is not None and len(sizes) not in rule.allowed:
            return f"input {index} has {len(sizes)} dimensions, allowed {', '.join(map(str, rule.allowed))}"
    return None


def _same_rank(rule: table.SameRank, node: onnx.NodeProto, tensors: Tensors) -> str | None:
    own = tensors.sizes.get(_input(node, 0))
    for index in rule.indices:
        sizes = tensors.sizes.get(_input(node, index))
        if own is None or sizes is None:
            continue
        if len(sizes) != len(own):
            return f"input {index} has {len(sizes)} dimensions, input 0 has {len(own)}"
        if any(side > most > 0 for side, most in zip(sizes, own, strict=True)):
            return f"input {index} is {sizes}, larger than input 0 {own}"
    return None


def _outputs(rule: table.Outputs, node: onnx.NodeProto, tensors: Tensors) -> str | None:
    asked = sum(bool(name) for name in node.output[rule.most :])
    return f"{rule.most + asked} outputs, at most {rule.most}" if asked else None


CHECKS: dict[type, Callable[[Any, onnx.NodeProto, Tensors], str | None]] = {
    table.Attribute: _attribute,
    table.Constant: _constant,
    table.Zero: _zero,
    table.Positive: _positive,
    table.PerAxis: _per_axis,
    table.AtMost: _at_most,
    table.Ranks: _ranks,
    table.SameRank: _same_rank,
    table.Outputs: _outputs,
}
