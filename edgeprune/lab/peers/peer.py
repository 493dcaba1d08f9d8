"""What a peer is: a convolutional network that the trainer trains, validation scores and graphs are made of as of a ViT.

Shapes: B batch, H W pixels of the frame, h w of the label map, K classes.
"""

from abc import abstractmethod
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.model.checkpoint import shape_of
from edgeprune.model.network import Network, Prediction
from edgeprune.model.policy import Masked, Select, TokenPolicy
from edgeprune.model.spec import ModelSpec

LABEL_STRIDE = 2  # of the logits, as our own head's: teacher and pupil answer for the same pixels
Levels = tuple[float, float, float]


class Peer(Network):
    """A network without tokens: the policy is the dense one, and there are no blocks.

    Attributes:
        mean, std: of the levels, of each colour, that its weights are trained with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ModelSpec, mean: Levels, std: Levels):
        super().__init__()
        self.spec, self.grid = spec, spec.grid
        self.policy, self.blocks = TokenPolicy(shape_of(spec)), nn.ModuleList()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @abstractmethod
    def coarse_logits(self, x_B3HW: Tensor) -> Tensor:
        """Normalised images -> logits at the network's own stride."""

    def begin(self) -> str:
        """Takes the weights that training begins with, where there are better ones than random; where these are from."""
        return "random"

    def logits(self, images_B3HW: Tensor) -> Tensor:
        """Levels 0-255 of any size -> logits (B, K, h, w) at `LABEL_STRIDE`."""
        normal_B3HW = ((images_B3HW - self.mean) / self.std).to(self.mean.dtype)
        size = tuple(ceil(side / LABEL_STRIDE) for side in images_B3HW.shape[-2:])
        return enlarge(self.coarse_logits(normal_B3HW), size)

    def forward(
        self,
        images_B3HW: Tensor,
        select: Select | None = None,
        labels_BHW: Tensor | None = None,
        ignore_index: int = 255,
        progress: float = 1.0,
    ) -> Prediction:
        logits_BKhw = self.logits(images_B3HW.contiguous(memory_format=torch.channels_last))
        no_tokens_BND = logits_BKhw.new_zeros(len(images_B3HW), 0, 0)
        return Prediction(logits_BKhw, no_tokens_BND, Masked(no_tokens_BND, [], logits_BKhw.new_zeros(())))

    def layer_of(self, name: str) -> int:
        return 1


def enlarge(x_BCHW: Tensor, size: tuple[int, ...]) -> Tensor:
    """To a given size (H, W)."""
    return F.interpolate(x_BCHW, size, mode="bilinear", align_corners=False)
