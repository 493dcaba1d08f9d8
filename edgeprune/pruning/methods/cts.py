"""CTS: cells of 2x2 patches that hold one class share a token (Lu, de Geus, Dubbelman, "Content-aware Token Sharing for
Efficient Semantic Segmentation with Vision Transformers", CVPR 2023)."""

from pydantic import Field

from edgeprune.base.errors import InputError
from edgeprune.base.reading import Strict
from edgeprune.model.policy import Shape
from edgeprune.pruning.methods.combination import Combination


class CTSOptions(Strict):
    """Settings of the `cts` policy; the paper merges a constant number of cells."""

    keep: float = Field(
        0.56, ge=0.25, le=1, description="share of the tokens that remains; the paper takes up to 44% away"
    )


class CTS(Combination):
    """One decision before the first block, on cells of 2x2: superpatches of one side (see `combination`)."""

    def __init__(self, shape: Shape, options: CTSOptions):
        super().__init__(shape, level_of_cells("cts", shape, options.keep))


def level_of_cells(policy: str, shape: Shape, keep: float) -> list[tuple[int, float]]:
    """The level of 2x2 superpatches that leaves this share of the tokens.

    Raises:
        InputError: the grid has an odd side.
    """
    if shape.grid[0] % 2 or shape.grid[1] % 2:
        raise InputError(f"policy: {policy} needs an even grid of tokens, this is {shape.grid[0]}x{shape.grid[1]}")
    return [(2, (1 - keep) / 0.75)]
