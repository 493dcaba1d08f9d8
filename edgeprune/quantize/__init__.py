"""PTQ and QAT: fake-quantization in, scales out."""

from edgeprune.quantize.linear import QuantLinear, quantize_linears, quantized_linears, set_quantized
from edgeprune.quantize.ranges import apply_ranges, measure_ranges

__all__ = [
    "QuantLinear",
    "apply_ranges",
    "measure_ranges",
    "quantize_linears",
    "quantized_linears",
    "set_quantized",
]
