"""What the trainer trains and validation scores: a network from images to a prediction. edgeprune's own is the `Segmenter`;
studies train others beside it, which have no tokens (`edgeprune/lab/peers`).

Shapes: B batch, H W pixels of the frame, N tokens of the grid (Gh x Gw), D width, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from edgeprune.model.auxiliary import AuxiliaryHeads
from edgeprune.model.heads.guided import Guided
from edgeprune.model.heads.head import Raw
from edgeprune.model.inside import Inside
from edgeprune.model.policy import Masked, Select, TokenPolicy
from edgeprune.model.spec import ModelSpec


@dataclass
class Prediction:
    """What the head computed (of the semantic task logits (B, K, H/2, W/2)), the tokens that it is made of (normalised), what
    the policy did on the way, and the logits (B, K, Gh, Gw) of auxiliary heads where a phase trains some."""

    raw: Raw
    x_BND: Tensor
    masked: Masked
    auxiliary: list[Tensor] = field(default_factory=list)


class Network(nn.Module, ABC):
    """A network for segmentation. Images go in as levels 0-255; see `forward`.

    Attributes:
        spec: what is trained, as a recipe says it: the size of the input and the classes of every network.
        grid: patches (Gh, Gw) of the input.
        policy: which tokens are processed; where there are none, the dense one, which decides nothing.
        blocks: of a transformer; empty where there is none.
        auxiliary: heads that a phase of training adds, and takes away at its end.
        inside: the patches that are looked at; None: all.
    """

    spec: ModelSpec
    grid: tuple[int, int]
    policy: TokenPolicy
    blocks: nn.ModuleList
    auxiliary: AuxiliaryHeads | None
    inside: Inside | None

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = None
        self.inside = None

    @abstractmethod
    def forward(
        self,
        images_B3HW: Tensor,
        select: Select | None = None,
        labels_BHW: Tensor | None = None,
        ignore_index: int = 255,
        progress: float = 1.0,
        guided: Guided | None = None,
    ) -> Prediction:
        """The training form.

        Args:
            images_B3HW: levels 0-255 as float, H and W multiples of the patch.
            select: overrides the policy's own selection (see `model/policy.py`).
            labels_BHW: for policies that learn from them; `ignore_index` marks pixels without a class.
            progress: the share of the sparse phase that is done.
            guided: queries that learn beside the head's own, where it has queries.
        """

    @abstractmethod
    def layer_of(self, name: str) -> int:
        """The layer that a parameter belongs to, of L blocks: 0 the embedding, i the i-th block, L + 1 the head and what it
        alone sees, L + 2 the policy. Learning rates and what is frozen go by it."""

    def label_map(self, raw: Raw) -> Tensor:
        """The class of each pixel of the first frame, (h, w); see `Head`. Here of logits (B, K, h, w), as networks without a
        head of edgeprune's give."""
        return raw[:1].argmax(dim=1)[0]


# networks that are no ViT of edgeprune's, by the name that `Card.network` has, untrained: a study puts its own here when it is
# imported, so that what reads checkpoints need not import the study
NETWORKS: dict[str, Callable[[ModelSpec], Network]] = {}
