"""DToP: tokens that an auxiliary head is sure of leave early, their logits stay (Tang et al., "Dynamic Token Pruning in
Plain Vision Transformers for Semantic Segmentation", ICCV 2023)."""

from pydantic import Field

from edgeprune.model.policy import Shape
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.methods.decisions import ExitOptions, Share


class DToPOptions(ExitOptions):
    """Settings of the `dtop` policy; by default 78% of the token-layers remain, the paper's 86.8 of 109.9 GFLOPs."""

    keep: list[Share] = Field(
        [0.7, 0.5],
        min_length=1,
        description="share of the tokens that remains after each exit, spread evenly over the exits",
    )


class DToP(Combination):
    """Early exit alone, of every patch (see `combination`)."""

    def __init__(self, shape: Shape, options: DToPOptions):
        super().__init__(shape, exits=options)
        self.chosen = self.chosen_exits
