"""A weakly typed network that computes what its graph says, for the TensorRT of JetPack 6.

Strongly typed networks are there in TensorRT 10.3, but the vendor calls them fully available from 10.12 (its migration notes,
"trt-strong-typing-migration"); where an older one can't build a graph so, this is the other way, which 11 no longer has. In a
weakly typed network the builder is free to run any layer in any type that a flag allows, the fastest one: gates and norms that
the graph keeps in FP32 would become FP16. So

- a flag for each type that the graph has: FP16, and INT8 where there are Q/DQ layers (developer guide, "Introduction to
  Quantization": the INT8 flag must be set for any quantized operation);
- each layer is held to the type of what it reads, and its outputs to theirs (NvInfer.h: `ILayer::setPrecision`,
  `setOutputType`), with OBEY_PRECISION_CONSTRAINTS: the build fails where there is no such implementation;
- layers behind a DequantizeLinear are left alone: there the Q/DQ layers say which type is computed in (developer guide,
  "Explicit Versus Implicit Quantization"), and a layer that is held to FP16 could not be fused into an INT8 one;
- what says its own type is left alone: casts, constants, Q/DQ.

Which type the graph gives a tensor is asked of a strongly typed network of the same graph, which is parsed and never built:
there "every tensor in the network has a data type defined in the network" (NvInfer.h, `kSTRONGLY_TYPED`). Of a weakly typed
one no document says so before it is built: `ITensor::getType` is there "the data type of a tensor", which a layer's output type
is "generally not identical to" (`setOutputType`), and `getOutputType` is kFLOAT where nothing was set. What is left to trust is
that the parser names the tensors of both alike; one that has another name counts as what it says of itself.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from edgeprune.base.device import TYPING_VARIABLE
from edgeprune.base.errors import InputError

FULLY_STRONG_FROM = (10, 12)
NO_WEAK_FROM = (11, 0)


def typings(version: tuple[int, ...], setting: str | None) -> tuple[str, ...]:
    """How a network is built here, one after the other until one can be.

    Args:
        version: of TensorRT.
        setting: what the user set, `strong`, `weak`, or None.

    Raises:
        InputError: this TensorRT has no weakly typed networks.
    """
    if setting == "weak" and version >= NO_WEAK_FROM:
        raise InputError(
            f"{TYPING_VARIABLE} is weak: TensorRT {version[0]} builds strongly typed networks alone; unset it"
        )
    if setting is not None:
        return (setting,)
    return ("strong",) if version >= FULLY_STRONG_FROM else ("strong", "weak")


def types_in(network: Any) -> dict[str, Any]:
    """The type of each tensor of a parsed, strongly typed network, by its name."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    tensors = [layer.get_input(each) for layer in layers for each in range(layer.num_inputs)]
    tensors += [layer.get_output(each) for layer in layers for each in range(layer.num_outputs)]
    return {tensor.name: tensor.dtype for tensor in _there(tensors)}


def hold_types(trt: Any, network: Any, config: Any, types: Mapping[str, Any]) -> None:
    """Holds the layers of a parsed, weakly typed network to the types of its graph, and allows those types.

    Args:
        types: of the graph's tensors, see `types_in`.
    """

    def type_of(tensor: Any) -> Any:
        return types.get(tensor.name, tensor.dtype)

    kind = trt.LayerType
    says_its_own = {kind.CAST, kind.CONSTANT, kind.QUANTIZE, kind.DEQUANTIZE}
    floats = {trt.DataType.FLOAT, trt.DataType.HALF}
    dequantized: set[str] = set()  # tensors that Q/DQ layers decide about
    flags = {trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        inputs = _there(layer.get_input(each) for each in range(layer.num_inputs))
        outputs = _there(layer.get_output(each) for each in range(layer.num_outputs))
        if layer.type in (kind.QUANTIZE, kind.DEQUANTIZE):
            flags.add(trt.BuilderFlag.INT8)
        if any(type_of(tensor) == trt.DataType.HALF for tensor in (*inputs, *outputs)):
            flags.add(trt.BuilderFlag.FP16)
        reads_dequantized = any(tensor.name in dequantized for tensor in inputs)
        if layer.type == kind.DEQUANTIZE or (reads_dequantized and layer.type == kind.SHUFFLE):
            dequantized.update(tensor.name for tensor in outputs)  # a transposed weight is one still
        if reads_dequantized or layer.type in says_its_own:
            continue
        computed = next((found for found in map(type_of, (*inputs, *outputs)) if found in floats), None)
        if computed is not None:  # indices, masks and shapes have types of their own
            layer.precision = computed
        for number, tensor in enumerate(outputs):
            if type_of(tensor) in floats:
                layer.set_output_type(number, type_of(tensor))
    for flag in flags:
        config.set_flag(flag)


def _there(tensors: Iterable[Any]) -> list[Any]:
    """Without those that a layer can have and has not."""
    return [tensor for tensor in tensors if tensor is not None]
