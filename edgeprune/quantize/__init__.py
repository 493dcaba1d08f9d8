"""PTQ and QAT: fake-quantization in, scales out."""

from edgeprune.quantize.linear import QuantLinear, load_quantizers, quantize_linears, quantized_linears, set_quantized
from edgeprune.quantize.ranges import apply_ranges, measure_ranges

__all__ = [
    "QuantLinear",
    "apply_ranges",
    "load_quantizers",
    "measure_ranges",
    "quantize_linears",
    "quantized_linears",
    "set_quantized",
]
