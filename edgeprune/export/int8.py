"""INT8 linears in the graph: Q/DQ on the input, folded INT8 weights, one integer GEMM with a float result.

A linear that was trained with fake-quantizers is exported as one custom operator, which the exporter translates into the
dialect that the target's engine fuses:

- `onnxruntime`: DQ(Q(x)) and DQ(W_int8) into Gemm with an INT32 bias. ONNX Runtime makes one QGemm with a float result of it.
- `tensorrt`: DQ(Q(x)) and DQ(W_int8) into MatMul, then a float Add. TensorRT refuses to dequantize INT32.

Shapes: N tokens, D inputs, F outputs.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from onnxscript import opset18 as op
from torch import Tensor, nn

from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.linear import QuantLinear, quantized_linears

# Of an INT32 bias, in codes. Its step is the input's times the weight's: where a channel's weights are next to nothing, as a
# dead unit's, no code would reach the bias, and the weight's step is raised until one does (ONNX Runtime's own quantizer does
# alike, microsoft/onnxruntime#22020). The other half of INT32 is for the sum of products that it is added to: 65,000 inputs.
LARGEST_BIAS = 2.0**30


@torch.library.custom_op("edgeprune::int8_linear", mutates_args=())
def int8_linear(  # noqa: PLR0913  # the inputs of the node in the graph, as the exporter passes them on
    x_ND: Tensor,
    weight_DF: Tensor,
    step_F: Tensor,
    zero_F: Tensor,
    bias_F: Tensor,
    bias_step_F: Tensor | None,
    input_step: Tensor,
    zero: Tensor,
) -> Tensor:
    """What the exported graph computes, in PyTorch. `zero`, `zero_F`: the zero points, all 0. `bias_step_F`: of an INT32
    bias; None: the bias is float."""
    codes_ND = (x_ND / input_step).round().clamp(-128, 127)
    bias_F = bias_F if bias_step_F is None else bias_F.float() * bias_step_F
    return F.linear(codes_ND * input_step, (weight_DF.float() * step_F).T, bias_F)


@int8_linear.register_fake
def _(x_ND: Tensor, weight_DF: Tensor, *rest: Tensor | None) -> Tensor:
    return x_ND.new_empty(*x_ND.shape[:-1], weight_DF.shape[1])


# The weight's zero points are written out, though they are all 0 and could be left away: without them ONNX Runtime 1.31
# does not fuse, and runs 48 float Gemms behind 144 DequantizeLinear (31 ms a frame instead of 17).


def _to_graph(  # noqa: PLR0913  # those of `int8_linear`
    x_ND: Any, weight_DF: Any, step_F: Any, zero_F: Any, bias_F: Any, bias_step_F: Any, input_step: Any, zero: Any
) -> Any:
    x_ND = op.DequantizeLinear(op.QuantizeLinear(x_ND, input_step, zero), input_step, zero)
    weight_DF = op.DequantizeLinear(weight_DF, step_F, zero_F, axis=1)
    if bias_step_F is None:
        return op.Add(op.MatMul(x_ND, weight_DF), bias_F)
    return op.Gemm(x_ND, weight_DF, op.DequantizeLinear(bias_F, bias_step_F, axis=0))


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.edgeprune.int8_linear.default: _to_graph}


class FoldedLinear(nn.Module):
    """A trained `QuantLinear` with its weight folded to INT8 constants."""

    def __init__(self, linear: QuantLinear, dialect: str):
        super().__init__()
        input_step = torch.tensor(linear.input_step)
        bias_F = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach().float()
        least_F = bias_F.abs() / (input_step * LARGEST_BIAS) if dialect == "onnxruntime" else None
        weight_DF, step_F = linear.int8_weight(least_F)
        self.register_buffer("weight_DF", weight_DF)
        self.register_buffer("step_F", step_F)
        self.register_buffer("zero_F", torch.zeros_like(weight_DF[0]))
        self.register_buffer("input_step", input_step)
        self.register_buffer("zero", torch.tensor(0, dtype=torch.int8))
        bias_step_F = input_step * step_F if dialect == "onnxruntime" else None
        self.register_buffer("bias_step_F", bias_step_F)
        if bias_step_F is not None:
            bias_F = (bias_F.double() / bias_step_F).round().to(torch.int32)
        self.register_buffer("bias_F", bias_F)

    def forward(self, x_ND: Tensor) -> Tensor:
        weight = (self.weight_DF, self.step_F, self.zero_F, self.bias_F, self.bias_step_F)
        return int8_linear(x_ND, *weight, self.input_step, self.zero)


def fold_linears(model: Segmenter, dialect: str) -> None:
    """Replaces every fake-quantized linear by its folded form, in place."""
    for name, linear in list(quantized_linears(model)):
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, FoldedLinear(linear, dialect))


def unquantize_linears(model: Segmenter, but: tuple[str, ...] = ()) -> None:
    """Replaces every fake-quantized linear by a plain one of its weights as they were trained, in place: the float twin.

    These are the weights that QAT keeps in float, not their rounded values, though its forward passes saw those alone.
    Rounding is noise that the model was trained to bear, of half a step a weight where the trained scale does not clamp it;
    of the shipped model either scores the same. So a linear in float has the same weights in every precision, and
    `int8-mlp` differs from `fp16` in the MLPs alone.

    Args:
        but: linears that stay as they are, by their names in a block (`Precision.quantized`).
    """
    for name, linear in list(quantized_linears(model)):
        if name.endswith(but):
            continue
        parent, _, attribute = name.rpartition(".")
        plain = nn.Linear(linear.in_features, linear.out_features, linear.bias is not None)
        plain.weight, plain.bias = linear.weight, linear.bias
        setattr(model.get_submodule(parent), attribute, plain)
