"""Auxiliary heads: while a model trains, a few places between its blocks have a small head each, whose loss reaches the blocks
below by a short way (PSPNet, Zhao 2017, section 4; of a ViT: SETR, Zheng 2021).

Shapes: B batch, M rows that a block is given (the N tokens of the grid first), D width, C channels, K classes, Gh Gw the grid.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from edgeprune.model.blocks import Layer

CHANNELS = 64  # of the main head's widest map


class AuxiliaryHead(nn.Module):
    """A norm, one 3x3 convolution and a classifier on the token grid (FCN, Long 2015)."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.smooth = nn.Sequential(
            nn.Conv2d(width, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()
        )
        self.classify = nn.Conv2d(CHANNELS, classes, 1)

    def forward(self, x_BND: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens of the grid, as a block left them -> logits (B, K, Gh, Gw)."""
        return self.classify(self.smooth(self.norm(x_BND).transpose(1, 2).unflatten(2, grid)))


class AuxiliaryHeads(nn.Module):
    """The heads of a model.

    A token that a policy let go before a head's block gives it what it has in that place: features as it left with them, or
    as the policy goes on with them.

    Args:
        blocks: how many blocks precede each head; fewer than there are.
    """

    def __init__(self, blocks: Sequence[int], width: int, classes: int):
        super().__init__()
        self.blocks = tuple(blocks)
        self.heads = nn.ModuleList(AuxiliaryHead(width, classes) for _ in blocks)

    def around(self, blocks: Iterable[nn.Module]) -> list[nn.Module]:
        """The blocks of one pass, as a policy calls them; those behind a head keep what they are given."""
        return [Listening(block) if index in self.blocks else block for index, block in enumerate(blocks)]

    def forward(self, blocks: Sequence[nn.Module], grid: tuple[int, int]) -> list[Tensor]:
        """What each head says of what a block of `around` was given: logits (B, K, Gh, Gw)."""
        tokens, logits = grid[0] * grid[1], []
        for index, head in zip(self.blocks, self.heads, strict=True):
            block = blocks[index]
            assert isinstance(block, Listening)
            logits.append(head(block.given_BMD[:, :tokens], grid))
        return logits


class Listening(Layer):
    """A block that keeps what it was given last."""

    given_BMD: Tensor

    def __init__(self, block: nn.Module):
        super().__init__()
        assert isinstance(block, Layer)
        self.block = block

    def forward_with_context(
        self, x_ND: Tensor, keys_N: Tensor | None = None, bias_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        self.given_BMD = x_ND
        return self.block.forward_with_context(x_ND, keys_N, bias_N)

    def attention(self, x_ND: Tensor, keys_N: Tensor | None = None) -> Tensor:
        return self.block.attention(x_ND, keys_N)

    def keys(self, x_ND: Tensor) -> Tensor:
        return self.block.keys(x_ND)

    def values(self, x_ND: Tensor) -> Tensor:
        return self.block.values(x_ND)
