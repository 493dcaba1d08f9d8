"""Takes large input channels off the linears before ranges are measured: a network of the same function that INT8 changes less.

Pretrained ViTs have a few channels that are many times larger than the others, and one step for all of them is then a coarse
one. Each channel is divided by a factor where it is made (LayerNorm's weights, the values of attention) and its weights are
multiplied by it where it is read (SmoothQuant: Xiao et al., ICML 2023, eq. 3 and 4). What `fc2` reads comes out of a GELU,
through which no factor passes; it stays.

Shapes: D channels of a linear's input.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgeprune.model.blocks import Block
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.linear import QuantLinear
from edgeprune.quantize.ranges import watched

MIGRATION = 0.5  # alpha of eq. 4: how much of the difference between channels the weights take over
LEAST = 1e-5  # of the largest channel: what is never used is not blown up


def equalise(model: Segmenter, run: Callable[[], None], first: int = 0) -> None:
    """Changes weights in place; in float the network gives what it gave.

    Args:
        run: feeds the calibration frames through `model`, which runs in float meanwhile.
        first: the blocks before it stay as they are, those that a phase freezes.
    """
    largest: dict[str, Tensor] = {}

    def note(name: str, _: QuantLinear, x_MD: Tensor) -> None:
        largest_D = x_MD.abs().amax(dim=0)
        largest[name] = torch.maximum(largest[name], largest_D) if name in largest else largest_D

    with watched(model, note):
        run()
    with torch.no_grad():
        for index, block in enumerate(model.blocks[first:], start=first):
            assert isinstance(block, Block)
            _equalise_block(
                block,
                {name: largest[f"blocks.{index}.{name}"] for name in ("attn.proj", "attn.qkv", "mlp.fc1")},
                not model.policy.reads_values,
            )


def _equalise_block(block: Block, largest: dict[str, Tensor], values_too: bool) -> None:
    if values_too:
        proj, qkv = block.attn.proj, block.attn.qkv
        factor_D = factors(largest["attn.proj"], proj.weight)
        of_values = slice(2 * len(factor_D), None)
        qkv.weight[of_values] /= factor_D[:, None]
        qkv.bias[of_values] /= factor_D
        proj.weight *= factor_D
    for norm, linear, name in ((block.norm1, block.attn.qkv, "attn.qkv"), (block.norm2, block.mlp.fc1, "mlp.fc1")):
        _equalise_norm(norm, linear, largest[name])


def _equalise_norm(norm: nn.LayerNorm, linear: nn.Linear, largest_D: Tensor) -> None:
    factor_D = factors(largest_D, linear.weight)
    norm.weight.div_(factor_D)
    norm.bias.div_(factor_D)
    linear.weight.mul_(factor_D)


def factors(largest_D: Tensor, weight_FD: Tensor) -> Tensor:
    """What each input channel is divided by: eq. 4, with a geometric mean of 1."""
    read_D = weight_FD.abs().amax(dim=0)
    largest_D, read_D = (each_D.clamp_min(LEAST * float(each_D.max()) + 1e-12) for each_D in (largest_D, read_D))
    factor_D = largest_D**MIGRATION / read_D ** (1 - MIGRATION)
    return factor_D / factor_D.log().mean().exp()
