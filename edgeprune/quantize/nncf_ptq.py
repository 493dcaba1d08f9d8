"""PTQ by NNCF's own algorithms, on a graph: SmoothQuant (Xiao et al., ICML 2023) and its fast bias correction.

`quantize_linears_of_graph` quantizes the linears of the blocks alone, symmetrically, as everywhere here (see `linear`); so
what differs from min-max is what the two algorithms do.

Shapes: F frames, H W pixels.
"""

import re
import sys
from contextlib import redirect_stdout
from typing import Any

import nncf
import numpy as np
import numpy.typing as npt
import onnx
from nncf.quantization.advanced_parameters import (
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    OverflowFix,
)

from edgeprune.quantize.linear import QUANTIZED

OFF = -1.0  # NNCF's mark of an alpha that is not to be used
ALPHA = 0.95  # its default for transformers


def calibrated(proto: onnx.ModelProto, frames_FHW3: npt.NDArray[np.uint8], **settings: Any) -> onnx.ModelProto:
    """`nncf.quantize` with its transformer settings on a graph frame -> labels, which stays as it is."""
    data = nncf.Dataset([{"frame": frame_HW3} for frame_HW3 in frames_FHW3])
    with redirect_stdout(sys.stderr):  # its progress; standard output belongs to `--json`
        quantized: onnx.ModelProto = nncf.quantize(
            proto, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(frames_FHW3), **settings
        )
    return quantized


def quantize_linears_of_graph(
    proto: onnx.ModelProto, frames_FHW3: npt.NDArray[np.uint8], smooth: bool
) -> onnx.ModelProto:
    """The graph of a float model with its blocks' linears in INT8, biases corrected.

    Args:
        proto: frame -> labels, as `edgeprune.export.graphs` writes it.
        frames_FHW3: to calibrate on.
        smooth: move magnitude from the inputs of a linear to its weights first (SmoothQuant).
    """
    linear = re.compile(rf"\bblocks\.\d+\.({'|'.join(map(re.escape, QUANTIZED))})\.weight$")
    others = [node.name for node in proto.graph.node if not any(linear.search(name) for name in node.input)]
    return calibrated(
        proto,
        frames_FHW3,
        preset=nncf.QuantizationPreset.PERFORMANCE,
        ignored_scope=nncf.IgnoredScope(names=others, validate=False),
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.DISABLE,
            smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=ALPHA if smooth else OFF),
        ),
    )
