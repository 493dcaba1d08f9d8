"""Tokens -> class logits: a light pyramid that adds the stem's fine features to the transformer's coarse ones.

Shapes: B batch, D width, C channels, Gh Gw the token grid, K classes. Strides are in pixels of the frame.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def _upsample(x_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, scale_factor=2.0, mode="bilinear", align_corners=False)


def _smooth(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())


class PyramidHead(nn.Module):
    """Stride 16 -> 8 -> 4, one 3x3 convolution at each finer stride, logits at stride 4 doubled to stride 2.

    Without skips (a patch stem) the same path runs on the tokens alone.
    """

    label_stride = 2

    def __init__(self, width: int, classes: int, skip_channels: Sequence[int], channels: tuple[int, int] = (64, 32)):
        super().__init__()
        at8, at4 = channels
        self.reduce = nn.Linear(width, at8)
        self.skip8 = nn.Conv2d(skip_channels[1], at8, 1) if skip_channels else None
        self.skip4 = nn.Conv2d(skip_channels[0], at4, 1) if skip_channels else None
        self.smooth8 = _smooth(at8)
        self.narrow = nn.Conv2d(at8, at4, 1)
        self.smooth4 = _smooth(at4)
        self.classify = nn.Conv2d(at4, classes, 1)

    def forward(self, x_BND: Tensor, grid: tuple[int, int], skips: Sequence[Tensor]) -> Tensor:
        """
        Args:
            x_BND: the final tokens of the full grid, normalised.
            grid: (Gh, Gw), N = Gh Gw.
            skips: the stem's features at strides 4 and 8, or none.

        Returns:
            logits (B, K, H/2, W/2).
        """
        x_BCHW = self.reduce(x_BND).transpose(1, 2).unflatten(2, grid)
        x_BCHW = _upsample(x_BCHW)
        if self.skip8 is not None:
            x_BCHW = x_BCHW + self.skip8(skips[1])
        x_BCHW = _upsample(self.narrow(self.smooth8(x_BCHW)))
        if self.skip4 is not None:
            x_BCHW = x_BCHW + self.skip4(skips[0])
        return _upsample(self.classify(self.smooth4(x_BCHW)))
