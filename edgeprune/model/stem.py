"""Frame -> tokens: a convolutional stem (Xiao 2021), the plain patch embedding of ViT, or this with convolutions beside it.

Shapes: B batch, 3 colours, H W pixels, C channels, N tokens of the grid (H/P x W/P), D width, P pixels of a
patch's side. C4 and C8 are the channels at strides 4 and 8.
"""

from torch import Tensor, nn

from edgeprune.base.errors import InputError

CHANNELS = {"full": (16, 32, 64), "half": (8, 16, 32)}  # of the convolutions at strides 2, 4 and 8


def _conv(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class Stem(nn.Module):
    """Frame -> tokens (B, N, D) and features for the head at finer strides.

    Attributes:
        skip_channels: of these features, at strides 4 and 8; or none.
        convolutions: parts whose shapes hang on `channels`.
        for_the_head: parts that only the head sees, as new as it is where weights are pretrained.
    """

    convolutions: tuple[str, ...] = ()
    for_the_head: tuple[str, ...] = ()

    def __init__(self, width: int, patch: int, channels: tuple[int, int, int] = CHANNELS["full"]):
        """
        Args:
            width: of the tokens.
            patch: pixels of the frame for one token, each way.
            channels: of the convolutions at strides 2, 4 and 8.
        """
        super().__init__()
        self.skip_channels: tuple[int, ...] = ()

    def _add_convolutions(self, channels: tuple[int, int, int]) -> None:
        """Three 3x3 convolutions of stride 2, which both stems with finer features have."""
        at2, at4, at8 = channels
        self.skip_channels = (at4, at8)
        self.stride2, self.stride4, self.stride8 = _conv(3, at2), _conv(at2, at4), _conv(at4, at8)


class ConvStem(Stem):
    """Four 3x3 convolutions of stride 2. Gives the head its features at strides 4 and 8."""

    convolutions = ("stride2", "stride4", "stride8", "proj")

    def __init__(self, width: int, patch: int, channels: tuple[int, int, int] = CHANNELS["full"]):
        """
        Raises:
            InputError: patches of another size than its strides make.
        """
        super().__init__(width, patch, channels)
        if patch != 16:
            raise InputError(f"stem conv has patches of 16, not {patch}; choose stem patch or patch-conv")
        self._add_convolutions(channels)
        self.proj = nn.Conv2d(channels[-1], width, 3, stride=2, padding=1)

    def forward(self, x_B3HW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns tokens (B, N, D) and the skips [(B, C4, H/4, W/4), (B, C8, H/8, W/8)]."""
        at4_BCHW = self.stride4(self.stride2(x_B3HW))
        at8_BCHW = self.stride8(at4_BCHW)
        return self.proj(at8_BCHW).flatten(2).transpose(1, 2), [at4_BCHW, at8_BCHW]


class PatchStem(Stem):
    """One PxP convolution of stride P, as in ViT; timm's `patch_embed.proj` loads into `proj`."""

    def __init__(self, width: int, patch: int, channels: tuple[int, int, int] = CHANNELS["full"]):
        super().__init__(width, patch, channels)
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, x_B3HW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns tokens (B, N, D) and no skips."""
        return self.proj(x_B3HW).flatten(2).transpose(1, 2), []


class PatchConvStem(PatchStem):
    """ViT's patch embedding, and beside it three 3x3 convolutions of stride 2: the spatial prior of ViT-Adapter (Chen 2023)
    without its attention. Gives the head its features at strides 4 and 8."""

    convolutions = for_the_head = ("stride2", "stride4", "stride8")

    def __init__(self, width: int, patch: int, channels: tuple[int, int, int] = CHANNELS["full"]):
        super().__init__(width, patch, channels)
        self._add_convolutions(channels)

    def forward(self, x_B3HW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns tokens (B, N, D) and the skips [(B, C4, H/4, W/4), (B, C8, H/8, W/8)]."""
        x_BND, _ = super().forward(x_B3HW)
        at4_BCHW = self.stride4(self.stride2(x_B3HW))
        return x_BND, [at4_BCHW, self.stride8(at4_BCHW)]


STEMS: dict[str, type[ConvStem] | type[PatchStem]] = {"conv": ConvStem, "patch": PatchStem, "patch-conv": PatchConvStem}
