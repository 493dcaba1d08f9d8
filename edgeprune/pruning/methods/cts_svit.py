"""CTS before the network and SViT inside it: cells of 2x2 patches that hold one class share a token, and gates skip blocks for
the tokens that remain."""

from pydantic import Field

from edgeprune.model.policy import Shape
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.methods.cts import level_of_cells
from edgeprune.pruning.methods.svit import SViTOptions


class CTSSViTOptions(SViTOptions):
    """Settings of the `cts-svit` policy: SViT's, whose ratios are of the tokens that merging leaves."""

    merged: float = Field(
        0.56, ge=0.25, le=1, description="share of the tokens that remains when cells have merged; the paper's least"
    )


class CTSSViT(Combination):
    """A decision on the cells before the first block, as `cts` makes it; then a gate before each block from `first` on, as
    `svit` has them, over the tokens that remain (see `combination`)."""

    def __init__(self, shape: Shape, options: CTSSViTOptions):
        super().__init__(shape, level_of_cells("cts-svit", shape, options.merged), options)
