"""DABNet (Li, Yun, Kim and Kim, "Depth-wise Asymmetric Bottleneck for Real-time Semantic Segmentation", BMVC 2019): 0.75 M
parameters, trained from nothing. LETNet and other small networks of the field are made of what it is made of.

Written from the paper (section 3, table 1). Of the paper's network differ: images are normalised by ImageNet's mean and
deviation, and logits, at stride 8, are enlarged to stride 2 in place of 1, as those of our own head are.

Shapes: B batch, C channels, H W pixels of a feature map. Strides are in pixels of the frame.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.lab.peers.peer import LabelPeer
from edgeprune.model.segmenter import NORMALISE
from edgeprune.model.spec import ModelSpec

WIDTH = 32  # channels at stride 2; twice at 4, four times at 8
DILATIONS = ((2, 2, 2), (4, 4, 8, 8, 16, 16))  # of the modules at strides 4 and 8


class DABNet(LabelPeer):
    """Strides 2, 4 and 8; each stage sees the image at its own stride too, and the modules' input beside their output.

    Args:
        width: of the first stage.
    """

    def __init__(self, spec: ModelSpec, width: int = WIDTH):
        super().__init__(spec, *NORMALISE["imagenet"])
        at4, at8 = 2 * width, 4 * width
        self.first = nn.Sequential(
            _conv(3, width, stride=2), _act(width), _conv(width, width), _act(width), _conv(width, width), _act(width)
        )
        self.join2, self.down4 = _act(width + 3), Downsampling(width + 3, at4)
        self.block4 = nn.Sequential(*(DABModule(at4, dilation) for dilation in DILATIONS[0]))
        self.join4, self.down8 = _act(2 * at4 + 3), Downsampling(2 * at4 + 3, at8)
        self.block8 = nn.Sequential(*(DABModule(at8, dilation) for dilation in DILATIONS[1]))
        self.join8, self.classify = _act(2 * at8 + 3), nn.Conv2d(2 * at8 + 3, spec.classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def coarse_logits(self, x_B3HW: Tensor) -> Tensor:
        """Normalised images -> logits at stride 8."""
        image2_B3HW = shrink(x_B3HW)
        image4_B3HW = shrink(image2_B3HW)
        x_BCHW = self.down4(self.join2(torch.cat((self.first(x_B3HW), image2_B3HW), dim=1)))
        x_BCHW = self.down8(self.join4(torch.cat((self.block4(x_BCHW), x_BCHW, image4_B3HW), dim=1)))
        return self.classify(self.join8(torch.cat((self.block8(x_BCHW), x_BCHW, shrink(image4_B3HW)), dim=1)))


class Downsampling(nn.Module):
    """ENet's (Paszke 2016): a strided convolution beside a max-pooling; the convolution alone where channels do not grow."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.pools = before < after
        self.conv = _conv(before, after - before if self.pools else after, stride=2)
        self.act = _act(after)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        convolved_BCHW = self.conv(x_BCHW)
        if self.pools:
            convolved_BCHW = torch.cat((convolved_BCHW, F.max_pool2d(x_BCHW, 2, ceil_mode=True)), dim=1)
        return self.act(convolved_BCHW)


class DABModule(nn.Module):
    """The depth-wise asymmetric bottleneck (section 3.1, figure 3c): half of the channels, two branches of a 3x1 and a 1x3
    convolution of each channel by itself, one of them dilated; their sum, all channels, and the input added."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        half = channels // 2
        self.reduce = nn.Sequential(_act(channels), _conv(channels, half), _act(half))
        self.near, self.far = _asymmetric(half, 1), _asymmetric(half, dilation)
        self.expand = nn.Sequential(_act(half), nn.Conv2d(half, channels, 1, bias=False))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        half_BCHW = self.reduce(x_BCHW)
        return x_BCHW + self.expand(self.near(half_BCHW) + self.far(half_BCHW))


def shrink(image_B3HW: Tensor) -> Tensor:
    """The image at half the size, rounded up."""
    return F.avg_pool2d(image_B3HW, 3, stride=2, padding=1)


def _act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def _conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


def _asymmetric(channels: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, (3, 1), 1, (dilation, 0), (dilation, 1), channels, bias=False),
        _act(channels),
        nn.Conv2d(channels, channels, (1, 3), 1, (0, dilation), (1, dilation), channels, bias=False),
        _act(channels),
    )
