"""PTQ by NNCF's own algorithms, on a graph: SmoothQuant (Xiao et al., ICML 2023) and its fast bias correction.

Only the linears of the blocks are quantized, symmetrically, as everywhere here (see `linear`); so what differs from
min-max is what the two algorithms do.

Shapes: F frames, H W pixels.
"""

import re
import sys
from contextlib import redirect_stdout

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


def quantize_graph(proto: onnx.ModelProto, frames_FHW3: npt.NDArray[np.uint8], smooth: bool) -> onnx.ModelProto:
    """The graph of a float model in INT8, its biases corrected.

    Args:
        proto: frame -> labels, as `edgeprune.export.graphs` writes it; stays as it is.
        frames_FHW3: to calibrate on.
        smooth: move magnitude from the inputs of a linear to its weights first (SmoothQuant).
    """
    linear = re.compile(rf"\bblocks\.\d+\.({'|'.join(map(re.escape, QUANTIZED))})\.weight$")
    others = [node.name for node in proto.graph.node if not any(linear.search(name) for name in node.input)]
    with redirect_stdout(sys.stderr):  # its progress; standard output belongs to `--json`
        quantized: onnx.ModelProto = nncf.quantize(
            proto,
            nncf.Dataset([{"frame": frame_HW3} for frame_HW3 in frames_FHW3]),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(frames_FHW3),
            ignored_scope=nncf.IgnoredScope(names=others, validate=False),
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.DISABLE,
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=ALPHA if smooth else OFF),
            ),
        )
    return quantized
