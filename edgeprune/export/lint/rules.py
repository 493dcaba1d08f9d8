"""Rules over ONNX graphs: what a run time refuses, ignores or runs slowly, found before a device does.

A rule's check takes a graph and its constants (initializers and Constant nodes) by name and yields one line per violation.
Sources: the TensorRT operator documentation for 10.x, ONNX Runtime's quantization documents, and the measurements named
beside a rule.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgeprune.export.lint.parser import refusals
from edgeprune.export.lint.parser_table import RESTRICTIONS, AtMost

Constants = dict[str, TensorProto]
Check = Callable[[onnx.ModelProto, Constants], Iterator[str]]

MAX_TOPK = next(each.limit for each in RESTRICTIONS["TopK"] if isinstance(each, AtMost))
TENSORRT = "TensorRT 10.3 to 11"
EVERY = "every engine"


@dataclass(frozen=True)
class Rule:
    """A check, what it concerns, why, and what to do about a finding."""

    check: Check
    concerns: str
    reason: str
    remedy: str


def _nodes(model: onnx.ModelProto, *operators: str) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if node.op_type in operators)


def _values(tensor: TensorProto) -> np.ndarray:
    return np.asarray(numpy_helper.to_array(tensor))


def static_shapes(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """Inputs and outputs of constant shape."""
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.tensor_type.HasField("shape"):
            yield f"{value.name} has no shape"
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                yield f"{value.name} has no constant size on axis {axis}"


def no_dynamic_operators(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """Operators whose output shape depends on data."""
    for node in _nodes(model, "NonZero", "Compress", "Unique", "NonMaxSuppression", "Loop", "If", "Scan"):
        yield f"{node.name}: {node.op_type} makes shapes depend on data"


def no_random(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """Sampling belongs to training."""
    for node in model.graph.node:
        if node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial", "Dropout"):
            yield f"{node.name}: {node.op_type} is random"


def topk_limit(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """TensorRT refuses K > 3840, and K must be constant."""
    for node in _nodes(model, "TopK"):
        count = constants.get(node.input[1])
        if count is None:
            yield f"{node.name}: the K of TopK is not a constant"
        elif int(_values(count).item()) > MAX_TOPK:
            yield f"{node.name}: TopK of {int(_values(count).item())}, over {MAX_TOPK}"


def no_scatternd(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """TensorRT ignores the `reduction` of ScatterND; its ScatterElements has none."""
    for node in _nodes(model, "ScatterND"):
        yield f"{node.name}: ScatterND; gather by an inverse map instead"
    for node in _nodes(model, "ScatterElements"):
        if any(item.name == "reduction" and item.s not in (b"", b"none") for item in node.attribute):
            yield f"{node.name}: ScatterElements with a reduction"


def opset(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """Opset 17 to 19 and IR version at most 10, which the oldest supported run times read; standard operators alone."""
    for domain in model.opset_import:
        used = any(node.domain == domain.domain for node in model.graph.node)
        if domain.domain not in ("", "ai.onnx"):
            if used:
                yield f"operators of domain {domain.domain!r} are known to one engine alone"
        elif not 17 <= domain.version <= 19:
            yield f"opset {domain.version}, expected 17 to 19"
    if model.ir_version > 10:
        yield f"IR version {model.ir_version}, expected at most 10"


def symmetric_int8(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """Zero points are 0; activations per tensor, weights per output channel on the last axis."""
    for node in _nodes(model, "QuantizeLinear", "DequantizeLinear"):
        if len(node.input) > 2 and node.input[2]:
            zero = constants.get(node.input[2])
            if zero is None or np.any(_values(zero)):
                yield f"{node.name}: a zero point that is not 0"
            elif zero.data_type == TensorProto.UINT8:
                yield f"{node.name}: UINT8, expected INT8"
        elif node.op_type == "QuantizeLinear":
            yield f"{node.name}: UINT8, which is what no zero point means; expected an INT8 zero point of 0"
        scale = constants.get(node.input[1])
        if scale is None:
            yield f"{node.name}: its scale is not a constant"
            continue
        values, content = _values(scale), constants.get(node.input[0])
        if not np.all(np.isfinite(values)) or np.any(values <= 0):
            yield f"{node.name}: a scale that is not positive"
        if content is None and values.size != 1:
            yield f"{node.name}: an activation with {values.size} scales, expected 1"
        elif content is not None and values.size not in (1, content.dims[-1]):
            yield f"{node.name}: {values.size} scales for weights {tuple(content.dims)}, expected one per output channel"
        elif content is not None and values.size > 1:
            axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
            if axis % len(content.dims) != len(content.dims) - 1:
                yield f"{node.name}: scales along axis {axis} of weights {tuple(content.dims)}, expected the last"


def folded_weights(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """Weights are INT8 constants: a QuantizeLinear on a float constant keeps it in float, and nothing fuses."""
    for node in _nodes(model, "QuantizeLinear"):
        if node.input[0] in constants:
            yield f"{node.name}: quantizes a constant; fold it to INT8"


def no_int32_dequantize(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """TensorRT dequantizes INT8, INT4 and FP8 alone."""
    for node in _nodes(model, "DequantizeLinear"):
        content = constants.get(node.input[0])
        if content is not None and content.data_type == TensorProto.INT32:
            yield f"{node.name}: dequantizes INT32"


def uint8_output_from_float(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """TensorRT casts to UINT8 from float alone."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    for value in model.graph.output:
        node = made_by.get(value.name)
        if value.type.tensor_type.elem_type != TensorProto.UINT8 or node is None or node.op_type != "Cast":
            continue
        source = made_by.get(node.input[0])
        to = next((item.i for item in source.attribute if item.name == "to"), None) if source is not None else None
        if source is None or source.op_type != "Cast" or to not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            yield f"{value.name}: UINT8 that is not cast from float"


def attention_shape(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """Attention stays in float, with Softmax on the last axis and heads of 16 to 256 in steps of 8: what engines fuse."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    shapes = _shapes(model)
    for node in _nodes(model, "Softmax"):
        axis = next((item.i for item in node.attribute if item.name == "axis"), -1)
        rank = len(shapes.get(node.input[0], ()))
        if axis != -1 and axis != rank - 1:
            yield f"{node.name}: Softmax over axis {axis}, expected the last"
        product = made_by.get(node.input[0])
        if product is not None and product.op_type == "MatMul":
            head = shapes.get(product.input[0], (0,))[-1]
            if head and not (16 <= head <= 256 and head % 8 == 0):
                yield f"{product.name}: attention heads of {head}, expected 16 to 256 in steps of 8"
    quantized = {name: node for node in _nodes(model, "DequantizeLinear") for name in node.output}
    for node in _nodes(model, "MatMul"):
        if all(name in quantized for name in node.input) and quantized[node.input[1]].input[0] not in constants:
            yield f"{node.name}: an attention product in INT8"


def parser_takes_it(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """Operators, types, attributes and shapes that the ONNX parser of each TensorRT from 10.0 on takes; UINT8 at the edges."""
    yield from refusals(model)


def types_agree(model: onnx.ModelProto, constants: Constants) -> Iterator[str]:
    """The inputs of each operator are of types that go together."""
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        yield " ".join(str(error).split())[:300]


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Inferred shapes by name; a size that is not known is 0."""
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in values}


RULES: dict[str, Rule] = {
    "static-shapes": Rule(
        static_shapes,
        EVERY,
        "CUDA graphs and memory that is planned once need shapes that never change",
        "export with constant sizes, a graph per bucket",
    ),
    "no-dynamic-operators": Rule(
        no_dynamic_operators,
        EVERY,
        "a shape that depends on data is known when it has been computed: the host waits for the device in mid-frame",
        "take a constant number with TopK, and gather",
    ),
    "no-random": Rule(
        no_random,
        EVERY,
        "sampling belongs to training",
        "export the model in evaluation mode, with `select_top` or thresholds",
    ),
    "topk-limit": Rule(
        topk_limit,
        TENSORRT,
        f"TensorRT refuses K over {MAX_TOPK}, and a K that is computed",
        "smaller buckets, or a full one",
    ),
    "no-scatternd": Rule(
        no_scatternd,
        TENSORRT,
        "TensorRT ignores the `reduction` of ScatterND, and its ScatterElements has none: wrong results without a word",
        "gather by an inverse map",
    ),
    "opset": Rule(
        opset,
        "TensorRT 10.3, ONNX Runtime 1.18 to 1.23",
        "the oldest supported readers know opsets up to 19 here, and IR versions up to 10",
        "export with opset 17 to 19 and set `ir_version` to 10",
    ),
    "symmetric-int8": Rule(
        symmetric_int8,
        TENSORRT,
        "TensorRT takes zero points of 0 alone, one scale per activation, scales of weights along their output channels",
        "train or calibrate symmetric INT8 (edgeprune does)",
    ),
    "folded-weights": Rule(
        folded_weights,
        EVERY,
        "a QuantizeLinear on a float constant keeps the weights in float: four times the bytes, and ONNX Runtime fuses nothing",
        "store the INT8 weights, behind a DequantizeLinear",
    ),
    "attention-shape": Rule(
        attention_shape,
        TENSORRT,
        "attention is fused with FP16 products, Softmax over the keys and heads of 16 to 256 in steps of 8; in INT8 only up to "
        "512 tokens, and slower",
        "quantize the linears alone; heads of 64",
    ),
    "no-int32-dequantize": Rule(
        no_int32_dequantize,
        TENSORRT,
        "TensorRT refuses to dequantize INT32, which is how ONNX Runtime takes a bias",
        "a float bias behind the product",
    ),
    "uint8-output-from-float": Rule(
        uint8_output_from_float,
        TENSORRT,
        "a UINT8 output can be cast from float alone",
        "cast to float first",
    ),
    "parser-takes-it": Rule(
        parser_takes_it,
        TENSORRT,
        "TensorRT's ONNX parser refuses the graph before anything is built; each line names the place in its table or source",
        "what the line says is allowed; of UINT8: a Cast behind the input, and one before the output",
    ),
    "types-agree": Rule(
        types_agree,
        TENSORRT,
        "strongly typed networks take the graph's types as they are: an FP16 and an FP32 input of one operator are an error",
        "a Cast where the type changes",
    ),
}
