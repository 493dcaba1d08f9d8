"""The semantic task: tokens -> class logits -> labels, by a light pyramid that adds the stem's fine features to the
transformer's coarse ones.

Shapes: B batch, N tokens of the grid, D width, C channels, K classes, H W pixels of the label map. Strides are in pixels of
the frame.
"""

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.model.blocks import FAR_BELOW
from edgeprune.model.heads.guided import Guided
from edgeprune.model.heads.head import Head
from edgeprune.model.spec import ModelSpec

CHANNELS = {"full": (64, 32), "half": (32, 16)}  # at strides 8 and 4
MARGIN = 1e-3  # two best logits of a pixel closer than this may swap by rounding alone


def _upsample(x_BCHW: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """To twice the size, or to a given one."""
    scale = 2.0 if size is None else None
    return F.interpolate(x_BCHW, size, scale, mode="bilinear", align_corners=False)


def _smooth(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())


class Pyramid(Head):
    """A head that goes from the tokens to stride 4 over stride 8, where it adds the stem's features, if there are any."""

    def _add_pyramid(self, spec: ModelSpec, skip_channels: Sequence[int]) -> None:
        self.patch, (at8, at4) = spec.patch, CHANNELS[spec.convolutions]
        self.skip8 = nn.Conv2d(skip_channels[1], at8, 1) if skip_channels else None
        self.skip4 = nn.Conv2d(skip_channels[0], at4, 1) if skip_channels else None
        self.smooth8 = _smooth(at8)
        self.narrow = nn.Conv2d(at8, at4, 1)
        self.smooth4 = _smooth(at4)

    def _to_stride8(self, x_BCHW: Tensor, grid: tuple[int, int], skips: Sequence[Tensor]) -> Tensor:
        """Features at stride 8, of features on the grid of the tokens that have as many channels."""
        x_BCHW = _upsample(x_BCHW, self._sizes(grid)[0])
        if self.skip8 is not None:
            x_BCHW = x_BCHW + self.skip8(skips[1])
        fine_BCHW: Tensor = self.smooth8(x_BCHW)
        return fine_BCHW

    def _to_stride4(self, x_BCHW: Tensor, grid: tuple[int, int], skips: Sequence[Tensor]) -> Tensor:
        """Features at stride 4, of those at stride 8."""
        x_BCHW = _upsample(self.narrow(x_BCHW), self._sizes(grid)[1])
        if self.skip4 is not None:
            x_BCHW = x_BCHW + self.skip4(skips[0])
        fine_BCHW: Tensor = self.smooth4(x_BCHW)
        return fine_BCHW

    def _sizes(self, grid: tuple[int, int]) -> list[tuple[int, int] | None]:
        """Of the maps at strides 8, 4 and 2; None where each is twice the one before."""
        height, width = grid[0] * self.patch, grid[1] * self.patch
        return [None if self.patch == 16 else (ceil(height / stride), ceil(width / stride)) for stride in (8, 4, 2)]


class PyramidHead(Pyramid):
    """Stride 16 -> 8 -> 4, one 3x3 convolution at each finer stride, logits at stride 4, doubled where labels are at stride 2.

    Without skips (a patch stem) the same path runs on the tokens alone. Where a patch is no 16 pixels the path goes from
    its stride to 8, of which it is no double; sides at strides 8 and 4 are rounded up, as those of the stem's features are.
    """

    def __init__(self, width: int, spec: ModelSpec, skip_channels: Sequence[int]):
        super().__init__(width, spec, skip_channels)
        at8, at4 = CHANNELS[spec.convolutions]
        self.reduce = nn.Linear(width, at8)
        self._add_pyramid(spec, skip_channels)
        self.classify = nn.Conv2d(at4, spec.classes, 1)

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("labels", "confidence") if self.with_confidence else ("labels",)

    def forward(
        self, x_BND: Tensor, grid: tuple[int, int], skips: Sequence[Tensor], guided: Guided | None = None
    ) -> Tensor:
        """Logits (B, K, H, W)."""
        assert guided is None  # `Semantic.check`
        x_BCHW = self.reduce(x_BND).transpose(1, 2).unflatten(2, grid)
        logits_BKHW = self.classify(self._to_stride4(self._to_stride8(x_BCHW, grid, skips), grid, skips))
        return logits_BKHW if self.label_stride == 4 else _upsample(logits_BKHW, self._sizes(grid)[2])

    def with_early_exits(self, raw: Tensor, frozen_BNK: Tensor, open_BN: Tensor, grid: tuple[int, int]) -> Tensor:
        """The head's logits where a token is open, its own, enlarged, where it left."""
        scale = float(self.patch // self.label_stride)
        canvas_BKHW = frozen_BNK.transpose(1, 2).unflatten(2, grid)
        canvas_BKHW = F.interpolate(canvas_BKHW, scale_factor=scale, mode="bilinear", align_corners=False)
        open_B1HW = F.interpolate(open_BN[:, None].unflatten(2, grid), scale_factor=scale, mode="nearest")
        return torch.where(open_B1HW > 0.5, raw, canvas_BKHW)

    def decide(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Labels (H, W), and with them their confidence."""
        labels_BHW = raw.argmax(dim=1)
        if not self.with_confidence:
            return (labels_BHW[0],)
        return labels_BHW[0], confidence(raw, labels_BHW)[0]

    def decided_from(self, raw: Tensor) -> tuple[Tensor, ...]:
        """The logits; a confidence itself."""
        return raw, *self.decide(raw)[1:]

    def sure(self, raw: Tensor) -> Tensor:
        """The pixels (H, W) whose two best classes are no tie."""
        best_2HW = raw[0].topk(2, dim=0).values
        return best_2HW[0] - best_2HW[1] > MARGIN

    def label_map(self, raw: Tensor) -> Tensor:
        return raw[:1].argmax(dim=1)[0]


def confidence(raw: Tensor, best_BHW: Tensor) -> Tensor:
    """How far each pixel's most probable class is before the next, p1 - p2 of the softmax over classes: (B, H, W) in whole
    steps of 1/255, from a tie to certainty.

    With l1 and l2 the two largest logits it is (1 - exp(l2 - l1)) / sum_k exp(l_k - l1). The second is the largest without the
    first: a TopK over channels costs more in ONNX Runtime, and the tokens that a graph selects are told by its TopK.

    Args:
        raw: logits (B, K, H, W).
        best_BHW: the class of the largest.
    """
    below_BKHW = raw - raw.amax(dim=1, keepdim=True)
    is_best_BKHW = torch.arange(raw.shape[1], device=raw.device)[:, None, None] == best_BHW[:, None]
    second_BHW = below_BKHW.masked_fill(is_best_BKHW, FAR_BELOW).amax(dim=1)
    margin_BHW = (1 - second_BHW.exp()) / below_BKHW.exp().sum(dim=1)
    return (255 * margin_BHW).round().to(torch.int32)
