"""What a peer is: a convolutional network that the trainer trains, validation scores and graphs are made of as of a ViT.

Shapes: B batch, H W pixels of the frame, h w of the label map, K classes, C channels, N tokens, D width.
"""

from abc import abstractmethod
from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.base.errors import choose
from edgeprune.model.checkpoint import shape_of
from edgeprune.model.heads import HEADS, Head
from edgeprune.model.heads.guided import Guided
from edgeprune.model.heads.head import Raw
from edgeprune.model.network import Network, Prediction
from edgeprune.model.policy import Masked, Select, TokenPolicy
from edgeprune.model.spec import ModelSpec

LABEL_STRIDE = 2  # of the logits, as our own head's: teacher and pupil answer for the same pixels
Levels = tuple[float, float, float]


class Peer(Network):
    """A network without tokens: the policy is the dense one, and there are no blocks.

    Attributes:
        mean, std: of the levels, of each colour, that its weights are trained with.
        label_stride: pixels of the frame for one of the answer's, each way.
    """

    mean: Tensor
    std: Tensor
    label_stride: int

    def __init__(self, spec: ModelSpec, mean: Levels, std: Levels):
        super().__init__()
        self.spec, self.grid = spec, spec.grid
        self.policy, self.blocks = TokenPolicy(shape_of(spec)), nn.ModuleList()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    @abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """What its graph gives, by name and in order."""

    @abstractmethod
    def logits(self, images_B3HW: Tensor, guided: Guided | None = None) -> Raw:
        """Levels 0-255 -> what the answer is decided from, see `Prediction.raw`. `guided`: see `Network.forward`."""

    @abstractmethod
    def decide(self, raw: Raw) -> tuple[Tensor, ...]:
        """The `outputs` of the first frame of the batch; see `Head.decide`."""

    def begin(self) -> str:
        """Takes the weights that training begins with, where there are better ones than random; where these are from."""
        return "random"

    def normalised(self, images_B3HW: Tensor) -> Tensor:
        """Levels 0-255 as the first layer takes them."""
        return ((images_B3HW - self.mean) / self.std).to(self.mean.dtype)

    def forward(
        self,
        images_B3HW: Tensor,
        select: Select | None = None,
        labels_BHW: Tensor | None = None,
        ignore_index: int = 255,
        progress: float = 1.0,
        guided: Guided | None = None,
    ) -> Prediction:
        raw = self.logits(images_B3HW.contiguous(memory_format=torch.channels_last), guided)
        no_tokens_BND = images_B3HW.new_zeros(len(images_B3HW), 0, 0)
        return Prediction(raw, no_tokens_BND, Masked(no_tokens_BND, [], images_B3HW.new_zeros(())))

    def layer_of(self, name: str) -> int:
        return 1


class LabelPeer(Peer):
    """A peer of the semantic task, which has a decoder of its own."""

    label_stride = LABEL_STRIDE

    @abstractmethod
    def coarse_logits(self, x_B3HW: Tensor) -> Tensor:
        """Normalised images -> logits at the network's own stride."""

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("labels",)

    def logits(self, images_B3HW: Tensor, guided: Guided | None = None) -> Tensor:
        """Levels 0-255 of any size -> logits (B, K, h, w) at `LABEL_STRIDE`."""
        size = tuple(ceil(side / LABEL_STRIDE) for side in images_B3HW.shape[-2:])
        return enlarge(self.coarse_logits(self.normalised(images_B3HW)), size)

    def decide(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Labels (h, w)."""
        return (raw.argmax(dim=1)[0],)


class HeadedPeer(Peer):
    """A convolutional encoder under the head that a ViT has for the task, so that the encoder alone is another.

    The head takes for tokens, of 16x16 pixels each, the encoder's features at stride 16 beside those at stride 32, enlarged,
    under a norm as a ViT's; and those at strides 4 and 8 as it takes a stem's.

    Args:
        channels: of the features at strides 4, 8, 16 and 32.
    """

    head: Head

    def __init__(self, spec: ModelSpec, mean: Levels, std: Levels, channels: Sequence[int]):
        super().__init__(spec, mean, std)
        at4, at8, at16, at32 = channels
        self.norm = nn.LayerNorm(at16 + at32, eps=1e-6)
        self.head = choose(HEADS, spec.task, "task")(at16 + at32, spec, (at4, at8))
        self.label_stride = self.head.label_stride
        for module in self.head.modules():  # as the linears of a ViT begin, see `Segmenter`
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.head.initialise()

    @abstractmethod
    def features(self, x_B3HW: Tensor) -> Sequence[Tensor]:
        """Normalised images, of sides that are multiples of 16 -> features (B, C, H, W) at strides 4, 8, 16 and 32."""

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.head.outputs

    def logits(self, images_B3HW: Tensor, guided: Guided | None = None) -> Raw:
        at4_BCHW, at8_BCHW, at16_BCHW, at32_BCHW = self.features(self.normalised(images_B3HW))
        grid = (at16_BCHW.shape[-2], at16_BCHW.shape[-1])
        both_BDHW = torch.cat((at16_BCHW, enlarge(at32_BCHW, grid)), dim=1)
        x_BND = self.norm(both_BDHW.flatten(2).transpose(1, 2))
        return self.head(x_BND, grid, [at4_BCHW, at8_BCHW], guided)

    def decide(self, raw: Raw) -> tuple[Tensor, ...]:
        return self.head.decide(raw)

    def label_map(self, raw: Raw) -> Tensor:
        return self.head.label_map(raw)


def enlarge(x_BCHW: Tensor, size: tuple[int, ...]) -> Tensor:
    """To a given size (H, W)."""
    return F.interpolate(x_BCHW, size, mode="bilinear", align_corners=False)
