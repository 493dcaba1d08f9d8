"""CTS: cells of 2x2 patches that hold one class share a token (Lu, de Geus, Dubbelman, "Content-aware Token Sharing for
Efficient Semantic Segmentation with Vision Transformers", CVPR 2023)."""

from pydantic import Field

from edgeprune.config import Strict
from edgeprune.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.policies.step import STEP, ExitOptions


class CTSOptions(Strict):
    """Settings of the `cts` policy; the paper merges a constant number of cells."""

    keep: float = Field(
        0.56, ge=0.25, le=1, description="share of the tokens that remains; the paper takes up to 44% away"
    )


class CTS(STEP):
    """One decision before the first block, on cells of 2x2: superpatches of one side, and no exits (see `step`)."""

    def __init__(self, shape: Shape, options: CTSOptions):
        if shape.grid[0] % 2 or shape.grid[1] % 2:
            raise InputError(f"policy: cts needs an even grid of tokens, this is {shape.grid[0]}x{shape.grid[1]}")
        super().__init__(shape, ExitOptions(exits=[]), [(2, (1 - options.keep) / 0.75)])
