"""Residual convolutions as one convolution: what is added is the middle of a kernel that passes its input on.

`x + norm(conv(x))` is `conv'(x)`: the norm's scale goes into the kernel, as every engine folds it, and its middle passes each
channel on to itself. ONNX Runtime otherwise adds what it reads beside the convolution.

Shapes: C channels, kernels (C, C, 3, 3).
"""

import copy

import torch
from torch import Tensor, nn

from edgeprune.model.heads.decoder import Residual


class OneConvolution(nn.Module):
    """A `Residual` as it answers in evaluation mode."""

    def __init__(self, residual: Residual):
        super().__init__()
        conv, norm = residual.conv, residual.norm
        assert norm.running_mean is not None and norm.running_var is not None
        scale_C = norm.weight * (norm.running_var + norm.eps).rsqrt()
        kernel_CC33 = conv.weight * scale_C[:, None, None, None]
        kernel_CC33[:, :, 1, 1] += torch.eye(len(scale_C))
        self.conv = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1)
        self.conv.weight = nn.Parameter(kernel_CC33)
        self.conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale_C)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.relu(self.conv(x_BCHW))


@torch.no_grad()
def fold_residuals(module: nn.Module) -> nn.Module:
    """The module with its residual convolutions as one each; itself where it has none."""
    names = [name for name, part in module.named_modules() if isinstance(part, Residual)]
    if not names:
        return module
    folded = copy.deepcopy(module)
    for name in names:
        parent, _, attribute = name.rpartition(".")
        residual = folded.get_submodule(name)
        assert isinstance(residual, Residual)
        setattr(folded.get_submodule(parent), attribute, OneConvolution(residual))
    return folded
