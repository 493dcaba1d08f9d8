"""The precisions that graphs are built in, and what of a block each of them quantizes.

A precision is a row here: `build` folds the linears that it names, `set_quantized` switches them in PyTorch, and what a
target, a manifest and `--precision` may say are the keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Precision:
    """What a graph computes in.

    Attributes:
        quantized: the linears of every block that are INT8 products, by their names in the block. All else is in float: of
            a precision that quantizes nothing in the type that it is called by, of another in the target's `beside_int8`.
        schema: the first of a manifest that may name it.
    """

    quantized: tuple[str, ...] = ()
    schema: int = 1


ATTENTION, MLP = ("attn.qkv", "attn.proj"), ("mlp.fc1", "mlp.fc2")

# `int8-mlp`: "MLP only" in NVIDIA's Model Optimizer. TensorRT was seen to run INT8 projections around fused FP16 attention
# slower than FP16, and to give wrong values (version 11; rf-detr's notes on its INT8 export). fc1 is INT8 where fc2 is: there
# a GELU between an INT8 product and an FP16 one came out as NaN.
PRECISIONS: Mapping[str, Precision] = {
    "int8": Precision((*ATTENTION, *MLP)),
    "int8-mlp": Precision(MLP, schema=7),
    "fp16": Precision(),
    "fp32": Precision(),
}
PrecisionName = Literal["int8", "int8-mlp", "fp16", "fp32"]  # the keys of PRECISIONS
