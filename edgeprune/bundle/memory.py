"""What build and device share of memory between frames: names, the tensors that a frame leaves for the next, whose turn it is.

Shapes: N tokens.
"""

from math import prod
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edgeprune.base.reading import Strict

STILL = "still"  # the bucket of no token: what was answered stands
NEW = "new_"  # how the output is called that becomes a tensor of the state
DUE = "due"  # the input of a trunk that says whose turn it is
TURN = 1e4  # the score of a token whose turn it is, and more; distances lie under it
GOLDEN = 0.6180339887498949  # multiples of it, without their whole part, lie evenly (Weyl 1916)
SHARES = (1 / 32, 1 / 16, 3 / 32, 1 / 8, 3 / 16, 1 / 4, 1 / 2)  # of the tokens, that buckets compute


def computed_counts(tokens: int, rows: int = 1) -> list[int]:
    """How many tokens each bucket computes, the smallest first and all of them last; but the last in multiples of `rows`."""
    some = {max(rows, round(share * tokens / rows) * rows) for share in SHARES}
    return [*sorted(count for count in some if count < tokens), tokens]


class StateTensor(Strict, frozen=True, strict=True):
    """A tensor that a frame leaves for the next; graphs read it by its name and write `new_` and its name."""

    name: str = Field(min_length=1, max_length=100)
    shape: list[Annotated[int, Field(ge=1, le=1 << 24)]] = Field(min_length=1, max_length=4)
    type: Literal["float32", "float16"] = "float32"

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * np.dtype(self.type).itemsize


def phases(tokens: int, refresh: int) -> npt.NDArray[np.int64]:
    """The phase, 0 to refresh - 1, in which each token has its turn (N): as many in each, all over the frame."""
    share_N = (np.arange(tokens) * GOLDEN) % 1
    return np.floor(share_N * refresh).astype(np.int64)
