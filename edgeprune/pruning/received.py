"""The attention that a token receives: what methods score by that read a class token's attention in their papers.

Shapes: B batch, H heads, N tokens, D width. Leading dimensions `...` are free.
"""

from torch import Tensor, nn

from edgeprune.model.blocks import Layer


def received(block: nn.Module, x_ND: Tensor, there_N: Tensor | None = None) -> Tensor:
    """The attention that each of a block's input tokens receives, (..., N): the mean over heads and over the queries that
    remain. It sums to one, less what extra tokens receive. A model may have no class token, whose one query the papers take.

    Args:
        there_N: (..., N) boolean, True for the tokens that remain; None: all of them.
    """
    assert isinstance(block, Layer)
    weights_NN = block.attention(x_ND, there_N).mean(dim=-3)
    if there_N is None:
        return weights_NN.mean(dim=-2)
    # a sum and not a product of matrices, which autocast would round to bf16, and ties with it
    queries_N1 = there_N.to(weights_NN.dtype)[..., None]
    return (weights_NN * queries_N1).sum(dim=-2) / queries_N1.sum(dim=-2).clamp_min(1)
