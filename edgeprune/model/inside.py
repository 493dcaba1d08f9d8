"""The tokens of a region of interest, as a grid of their own that the blocks and the policy see in place of the whole one.

The region is made of square cells, and its own grid has these cells side by side in a single row. What policies ask of a
grid's geometry lies within cells (superpatches, windows); so each of them finds whole, rectangular geometry, whatever the
region looks like, and none needs code for it.

Shapes: N tokens of the whole grid, K tokens inside, S cells of one side inside.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeprune.data.region import Region


@dataclass(frozen=True)
class Inside:
    """A region in whole cells of side x side patches."""

    region: Region
    side: int

    @classmethod
    def of(cls, region: Region, side: int) -> "Inside":
        """The region, rounded outwards to whole cells."""
        return cls(region.in_cells(side), side)

    @property
    def grid(self) -> tuple[int, int]:
        """(side, side times the number of cells): the region's own grid."""
        return self.side, self.region.tokens // self.side

    def numbers(self, side: int = 1) -> Tensor:
        """The cells (S,) of a side that divides the region's, in the order in which the region's own grid has them, by their
        numbers in the whole grid; of side 1 the tokens (K,)."""
        ratio, (height, width) = self.side // side, self.region.grid
        number_GG = np.arange((height // side) * (width // side)).reshape(height // side, width // side)
        number_RrCr = number_GG.reshape(height // self.side, ratio, width // self.side, ratio)
        inside_RC = self.region.inside_GG[:: self.side, :: self.side]
        return torch.from_numpy(number_RrCr.swapaxes(1, 2)[inside_RC].swapaxes(0, 1).flatten())

    def rows(self) -> Tensor:
        """For each token of the whole grid (N,) its number in the region's own grid; of one outside K, one past the last."""
        number_K = self.numbers()
        row_N = torch.full((self.region.inside_GG.size,), len(number_K))
        return row_N.scatter(0, number_K, torch.arange(len(number_K)))
