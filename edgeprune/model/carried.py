"""The training form of memory between frames (`model/memory.py` has that of graphs): two frames of a batch after each other, of
the second of which some tokens are computed and the others are carried.

Gradients reach what is carried through the frame before, so that a token learns to be right for a frame that it was not
computed for.

Shapes: B batch, N tokens of the grid, K of them computed, D width, A heads, E head size.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

from torch import Tensor, nn

from edgeprune.model.blocks import Block, attend

# embedded tokens (B, N, D) of the frame before and of this one -> numbers of those that are computed (B, K)
Choose = Callable[[Tensor, Tensor], Tensor]


class Before(NamedTuple):
    """The frames before those of a batch.

    Attributes:
        images_B3HW: levels 0-255.
        choose: which tokens are computed.
    """

    images_B3HW: Tensor
    choose: Choose


def carry(blocks: Iterable[nn.Module], before_BND: Tensor, now_BND: Tensor, choose: Choose) -> Tensor:
    """What the last block gives all tokens (B, N, D) where K of them are computed, as queries against the keys and values of
    all; those of the others are of the frame before, of which all were computed.

    Args:
        before_BND, now_BND: embedded tokens of the two frames.
    """
    index_BK = choose(before_BND, now_BND)
    x_BND, x_BKD = before_BND, now_BND.gather(1, _over(index_BK, now_BND.shape[-1]))
    for block in cast(Iterable[Block], blocks):
        attention = block.attn
        q_BANE, k_BANE, v_BANE = attention._heads(block.norm1(x_BND))
        x_BND = _after_heads(block, x_BND, attend(q_BANE, k_BANE, v_BANE, None))
        q_BAKE, new_k_BAKE, new_v_BAKE = attention._heads(block.norm1(x_BKD))
        rows_BAKE = _over(index_BK, k_BANE.shape[-1])[:, None].expand_as(new_k_BAKE)
        k_BANE = k_BANE.scatter(2, rows_BAKE, new_k_BAKE)
        v_BANE = v_BANE.scatter(2, rows_BAKE, new_v_BAKE)
        x_BKD = _after_heads(block, x_BKD, attend(q_BAKE, k_BANE, v_BANE, None))
    return x_BND.scatter(1, _over(index_BK, x_BND.shape[-1]), x_BKD)


def _over(index_BK: Tensor, size: int) -> Tensor:
    """The same number at each of `size` places of a row."""
    return index_BK[..., None].expand(*index_BK.shape, size)


def _after_heads(block: Block, x_BND: Tensor, mixed_BANE: Tensor) -> Tensor:
    """A block's output, from what its heads give."""
    return block.after_attention(x_BND, block.attn.proj(mixed_BANE.transpose(-3, -2).reshape(x_BND.shape)))
