"""INT8 fake-quantization of a transformer's linear layers, by NNCF's symmetric quantizer.

What is quantized and why: only the inputs and weights of `qkv`, `proj`, `fc1` and `fc2`. Outputs, attention, Softmax,
LayerNorm, GELU, gates and head stay in float, so that each linear becomes one integer GEMM with a float result; more
INT8 than that is slower than FP32 on a CPU and costs accuracy on TensorRT. NNCF's own graph pass also quantizes residual
sums and norm outputs and is keyed by traced addresses, which a network under a token policy does not keep; so its
quantizer is placed here by hand, one per input and one per weight. It runs where gradients are wanted; without, the
engine's own arithmetic stands in for it: same codes, no C++ extension to compile, and what the exported graph computes.

Shapes: D inputs, F outputs of a linear; N tokens. Scales are the largest representable magnitude (NNCF's convention);
the step between two INT8 values is scale / 127.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import nncf
import torch
import torch.nn.functional as F
from nncf.common.quantization.structs import QuantizationScheme
from nncf.torch.extensions import ExtensionLoaderTimeoutException
from nncf.torch.quantization.extensions import QuantizedFunctionsCPULoader, QuantizedFunctionsCUDALoader
from nncf.torch.quantization.layers import PTQuantizerSpec, SymmetricQuantizer
from torch import Tensor, nn

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import PRECISIONS
from edgeprune.model.blocks import Block
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.build_lock import wait_for_lock

logger = logging.getLogger(__name__)

QUANTIZED = PRECISIONS["int8"].quantized  # what training quantizes; a precision may take some of them alone
# seconds for NNCF's C++ extension; its own limit of 60 is too short for two busy cores (45 s measured)
LIMIT_SECONDS = 300.0
os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", f"{LIMIT_SECONDS:.0f}")
for handler in nncf.nncf_logger.handlers:  # it logs to standard output, which belongs to `--json`
    if isinstance(handler, logging.StreamHandler):
        handler.setStream(sys.stderr)
nncf.nncf_logger.setLevel(logging.WARNING)


def _quantizer(scale_shape: tuple[int, ...], narrow: bool) -> SymmetricQuantizer:
    """Signed INT8; `narrow` leaves -128 out, so that weights are symmetric in their codes too."""
    return SymmetricQuantizer(
        PTQuantizerSpec(
            num_bits=8,
            mode=QuantizationScheme.SYMMETRIC,
            signedness_to_force=True,
            narrow_range=narrow,
            half_range=False,
            scale_shape=scale_shape,
            logarithm_scale=False,
        )
    )


class QuantLinear(nn.Linear):
    """A linear whose input (per tensor) and weight (per output channel) pass through fake-quantizers.

    `enabled` False gives back the plain linear of the same weights: the FP32 twin of a QAT model.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias
        self.input_quantizer = _quantizer((1,), narrow=False)
        self.weight_quantizer = _quantizer((linear.out_features, 1), narrow=True)
        self.enabled = True
        self.reset_weight_scale()

    def reset_weight_scale(self) -> None:
        """The weight's scale becomes its largest magnitude per output channel."""
        with torch.no_grad():
            self.weight_quantizer.scale.copy_(self.weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-8))

    def forward(self, x_ND: Tensor) -> Tensor:
        if not self.enabled:
            return F.linear(x_ND, self.weight, self.bias)
        # in float: the quantizer's rounding must see what the engine sees; only the product runs in autocast's type
        with torch.autocast(x_ND.device.type, enabled=False):
            if torch.is_grad_enabled():
                x_ND = self.input_quantizer.quantize(x_ND.float())
                weight_FD = self.weight_quantizer.quantize(self.weight.float())
            else:
                x_ND = round_to_steps(x_ND.float(), self.input_quantizer.scale.abs() / 127, -128)
                weight_FD = round_to_steps(self.weight.float(), self.weight_quantizer.scale.abs() / 127, -127)
        return F.linear(x_ND, weight_FD, self.bias)

    @property
    def input_step(self) -> float:
        """The step of the input's INT8 codes."""
        return float(self.input_quantizer.scale.abs().item()) / 127

    def int8_weight(self, least_F: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """INT8 codes (D, F), laid out as the graph multiplies them, and their steps (F,), at least `least_F`."""
        with torch.no_grad():
            step_F1 = self.weight_quantizer.scale.abs().float() / 127
            if least_F is not None:
                step_F1 = step_F1.maximum(least_F[:, None])
            codes_FD = (self.weight.float() / step_F1).round().clamp(-127, 127).to(torch.int8)
        return codes_FD.T.contiguous(), step_F1.flatten()


def round_to_steps(x: Tensor, step: Tensor, lowest: int) -> Tensor:
    """What QuantizeLinear and DequantizeLinear make of x: the nearest of `lowest` to 127 steps."""
    return (x / step).round().clamp(lowest, 127) * step


def load_quantizers(device: torch.device) -> None:
    """Loads NNCF's quantizers, which it compiles once per machine: most of a minute on two cores.

    Without a C++ compiler or a cache folder that can be written to, it falls back to PyTorch operations and warns. A lock
    that a killed build left is removed (see `build_lock`).

    Raises:
        RunError: the compiler takes too long, or the lock can't be removed.
        InputError: a GPU without the CUDA toolkit.
    """
    loader = QuantizedFunctionsCUDALoader if device.type == "cuda" else QuantizedFunctionsCPULoader
    with suppress(OSError):  # no cache folder, so no lock
        wait_for_lock(Path(loader.get_build_dir()), LIMIT_SECONDS)
    try:
        _quantizer((1,), narrow=False).to(device).quantize(torch.zeros(1, device=device))
    except ExtensionLoaderTimeoutException:
        raise RunError(
            f"NNCF's quantizers were not compiled in {LIMIT_SECONDS:.0f} s; delete {loader.get_build_dir()} and run again, or "
            "set NNCF_EXTENSION_LOAD_TIMEOUT to more seconds"
        ) from None
    except nncf.InstallationError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"no quantization-aware training on {device}: {reason}; or train with `device: cpu`") from None


def quantize_linears(model: Segmenter) -> None:
    """Replaces the linears of all blocks by `QuantLinear`, in place; parameters keep their names."""
    for block in model.blocks:
        assert isinstance(block, Block)
        for name in QUANTIZED:
            parent, attribute = name.split(".")
            module = block.get_submodule(parent)
            setattr(module, attribute, QuantLinear(getattr(module, attribute)))


def quantized_linears(model: nn.Module) -> Iterator[tuple[str, QuantLinear]]:
    """(name, module) of every fake-quantized linear, in the network's order."""
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear):
            yield name, module


def set_quantized(model: Segmenter, linears: tuple[str, ...]) -> None:
    """Turns fake-quantization on for the linears of these names in a block (`Precision.quantized`), and off for all others."""
    for name, linear in quantized_linears(model):
        linear.enabled = name.endswith(linears)
