"""Extra tokens: a pretrained ViT's class and register tokens, which go through every block beside those of the grid.

A policy sees the grid's tokens alone. What it calls as a block takes the extra ones along, so none of its decisions can drop
or merge them, and the tokens of the grid attend to them whichever of their own kind are there.

Shapes: E extra tokens, N tokens of the grid that a block is given, D width, H heads. Leading dimensions `...` are free.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.model.blocks import Layer


class ExtraTokens:
    """The extra tokens of one pass through the blocks, as the last block left them; none for most models, to which this
    adds nothing."""

    def __init__(self, x_ED: Tensor | None):
        """`x_ED`: (..., E, D), with the leading dimensions of the grid's tokens; None: there are none."""
        self.x_ED = x_ED
        self.count = 0 if x_ED is None else x_ED.shape[-2]
        self._grid_ND = self._all_ND = x_ED  # the rows that the last block gave, of the grid and all of them

    def around(self, blocks: Iterable[nn.Module]) -> list[nn.Module]:
        """The blocks of this pass as a policy calls them, once each and in their order."""
        return list(blocks) if self.x_ED is None else [_Beside(block, self) for block in blocks]

    def join(self, x_ND: Tensor) -> Tensor:
        """The extra tokens, then those of the grid. What the last block gave is not put together anew."""
        if self.x_ED is None:
            return x_ND
        return self._all_ND if x_ND is self._grid_ND and self._all_ND is not None else torch.cat((self.x_ED, x_ND), -2)

    def split(self, x_ND: Tensor) -> Tensor:
        """Keeps the extra tokens of `join`'s result, or of a block's, and returns those of the grid."""
        if self.x_ED is None:
            return x_ND
        self.x_ED, grid_ND = x_ND.split((self.count, x_ND.shape[-2] - self.count), -2)
        self._grid_ND, self._all_ND = grid_ND, x_ND
        return grid_ND

    def pad(self, of_N: Tensor | None, value: float) -> Tensor | None:
        """What is said of each key of the grid (..., N), with `value` for the extra ones before them."""
        return None if of_N is None else F.pad(of_N, (self.count, 0), value=value)


class _Beside(Layer):
    """A block that runs on the extra tokens too."""

    def __init__(self, block: nn.Module, extras: ExtraTokens):
        super().__init__()
        assert isinstance(block, Layer)
        self.block, self.extras = block, extras

    def forward_with_context(
        self, x_ND: Tensor, keys_N: Tensor | None = None, bias_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        extras = self.extras
        y_ND, context_ND = self.block.forward_with_context(
            extras.join(x_ND), extras.pad(keys_N, 1), extras.pad(bias_N, 0)
        )
        return extras.split(y_ND), context_ND[..., extras.count :, :]

    def attention(self, x_ND: Tensor, keys_N: Tensor | None = None) -> Tensor:
        weights_HNN = self.block.attention(self.extras.join(x_ND), self.extras.pad(keys_N, 1))
        return weights_HNN[..., self.extras.count :, self.extras.count :]

    def keys(self, x_ND: Tensor) -> Tensor:
        return self.block.keys(x_ND)

    def values(self, x_ND: Tensor) -> Tensor:
        return self.block.values(x_ND)
