"""The layers of a parsed network in the fake of TensorRT, and what a builder makes of their types.

Rules it holds to (NvInfer.h of 10.3; TensorRT developer guide, the page in quotes):
- `setPrecision` and `setOutputType` are rejected in a strongly typed network, and gone in 11. [ILayer::setPrecision]
- The index that TopK puts out second is INT32 whatever is asked for. [ILayer::setOutputType]
- In a weakly typed network a type is used where its flag is set; a layer that is held to a type without it, with
  OBEY_PRECISION_CONSTRAINTS, fails the build. [BuilderFlag::kFP16, kOBEY_PRECISION_CONSTRAINTS]
- Quantized operations need the INT8 flag. ["Introduction to Quantization"]
- Where nothing obliges it to a layer's FP32 the builder may take FP16, once that is allowed: this one always does.
  ["Reduced Precision"; ILayer::setPrecision, "If precision is not set"]
- A tensor has the graph's type in a strongly typed network. What it says in a weakly typed one is not documented; here FLOAT
  for each layer's output that is a float. [NetworkDefinitionCreationFlag::kSTRONGLY_TYPED; ILayer::getOutputType, "If no
  precision has been set"]
"""

import enum
from collections.abc import Callable
from typing import Any

import onnx
from onnx import TensorProto, helper

# onnx.TensorProto.DataType -> tensorrt.DataType by name
TYPES = {
    TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.INT8: "INT8", TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64", TensorProto.UINT8: "UINT8", TensorProto.BOOL: "BOOL",
}  # fmt: skip
KINDS = {
    "Cast": "CAST", "Constant": "CONSTANT", "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE",
    "MatMul": "MATRIX_MULTIPLY", "Reshape": "SHUFFLE", "Transpose": "SHUFFLE", "Unsqueeze": "SHUFFLE", "Squeeze": "SHUFFLE",
    "TopK": "TOPK", "ReduceMean": "REDUCE", "ReduceSum": "REDUCE", "LayerNormalization": "NORMALIZATION", "Softmax": "SOFTMAX",
    "Gather": "GATHER", "Concat": "CONCATENATION", "Where": "SELECT",
}  # fmt: skip
LayerType = enum.Enum("LayerType", sorted({*KINDS.values(), "ELEMENTWISE"}))  # type: ignore[misc]
SAY_THEIR_OWN = {"CAST", "CONSTANT", "QUANTIZE", "DEQUANTIZE"}
Fail = Callable[[str], Any]  # logs an error


class NetworkTensor:
    """A tensor of a network: its name, the type that it says it has, and the one that the graph gives it."""

    def __init__(self, name: str, dtype: Any, in_graph: Any):
        self.name, self.dtype, self.in_graph = name, dtype, in_graph


class Layer:
    """One node of the graph. `fail`: what a call that is rejected says."""

    def __init__(self, node: Any, tensor_of: Callable[[str], NetworkTensor], strongly_typed: bool, fail: Fail):
        self.node, self.name, self.type = node, node.name, LayerType[KINDS.get(node.op_type, "ELEMENTWISE")]
        self._inputs = [tensor_of(name) if name else None for name in node.input]
        self._outputs = [tensor_of(name) for name in node.output if name]
        self._strongly_typed, self._fail = strongly_typed, fail
        self.held_to: Any = None
        self.held_outputs: dict[int, Any] = {}

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> NetworkTensor | None:
        return self._inputs[index]

    def get_output(self, index: int) -> NetworkTensor | None:
        return self._outputs[index]

    @property
    def precision(self) -> Any:
        return self.held_to

    @precision.setter
    def precision(self, dtype: Any) -> None:
        if self._strongly_typed:
            self._fail(f"{self.name}: setPrecision in a strongly typed network")
            return
        self.held_to = dtype

    def set_output_type(self, index: int, dtype: Any) -> None:
        if self._strongly_typed or not 0 <= index < self.num_outputs or (self.node.op_type == "TopK" and index == 1):
            self._fail(f"{self.name}: setOutputType of output {index}")
            return
        self.held_outputs[index] = dtype


def layers_of(model: onnx.ModelProto, data_type: Any, strongly_typed: bool, fail: Fail) -> list[Layer]:
    """A layer for each node; constants are not listed."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.input, *inferred.output, *inferred.value_info)
    }
    types |= {constant.name: constant.data_type for constant in inferred.initializer}
    computed = {name for node in model.graph.node for name in node.output}

    def tensor_of(name: str) -> NetworkTensor:
        in_graph = said = data_type[TYPES[types[name]]]
        if not strongly_typed and name in computed and in_graph.name == "HALF":
            said = data_type["FLOAT"]
        return NetworkTensor(name, said, in_graph)

    return [Layer(node, tensor_of, strongly_typed, fail) for node in model.graph.node]


def weakly_typed(model: onnx.ModelProto, layers: list[Layer], flags: set[str], fail: Fail) -> onnx.ModelProto | None:
    """What a builder makes of a weakly typed network: None where it fails, and otherwise FP16 wherever it is free to.

    Args:
        flags: names of the builder's flags.
    """
    if "INT8" not in flags and any(layer.type.name in ("QUANTIZE", "DEQUANTIZE") for layer in layers):
        return fail("INT8 flag is not set, and there are Q/DQ layers")
    built = onnx.ModelProto()
    built.CopyFrom(model)
    nodes = []
    for layer, node in zip(layers, built.graph.node, strict=True):
        nodes.append(node)
        held = {getattr(dtype, "name", None) for dtype in (layer.held_to, *layer.held_outputs.values())}
        if "HALF" in held and "FP16" not in flags and "OBEY_PRECISION_CONSTRAINTS" in flags:
            return fail(f"{layer.name} is held to HALF, and the FP16 flag is not set")
        if "FP16" not in flags or layer.type.name in SAY_THEIR_OWN:
            continue
        computes = "OBEY_PRECISION_CONSTRAINTS" in flags and layer.held_to is not None
        for index in range(layer.num_outputs):
            tensor = layer.get_output(index)
            assert tensor is not None
            if tensor.in_graph.name != "FLOAT" or (computes and index in layer.held_outputs):
                continue
            name, half, computed = node.output[index], f"{tensor.name}.half", f"{tensor.name}.computed"
            node.output[index] = computed
            nodes.append(helper.make_node("Cast", [computed], [half], to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
        if not computes:  # what it compares is rounded as well
            for index, source in enumerate(node.input):
                tensor = layer.get_input(index)
                if tensor is not None and tensor.in_graph.name == "FLOAT":
                    half, rounded = f"{node.output[0]}.in{index}.half", f"{node.output[0]}.in{index}"
                    nodes.insert(-1, helper.make_node("Cast", [source], [half], to=TensorProto.FLOAT16))
                    nodes.insert(-1, helper.make_node("Cast", [half], [rounded], to=TensorProto.FLOAT))
                    node.input[index] = rounded
    del built.graph.node[:]
    built.graph.node.extend(nodes)
    return built
