"""What build and device share of memory between frames: names, the tensors that a frame leaves for the next, groups of tokens,
whose turn it is.

Shapes: N tokens of the grid, G groups of M of them.
"""

from math import prod
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edgeprune.base.errors import InputError
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


def groups_of(grid: tuple[int, int]) -> Literal[1, 2]:
    """How many groups the tokens of a grid are in: two, the colours of a checkerboard, where there are as many of each."""
    return 1 if grid[0] * grid[1] % 2 else 2


def group_tokens(grid: tuple[int, int], groups: int) -> npt.NDArray[np.int64]:
    """The numbers of the tokens of each group (G, M): a frame computes as many of each.

    Raises:
        InputError: this grid has no groups of one size.
    """
    row_N, column_N = np.indices(grid).reshape(2, -1)
    if len(row_N) % groups:
        raise InputError(f"a grid of {grid[0]}x{grid[1]} patches has no {groups} groups of one size")
    return np.argsort((row_N + column_N) % groups, kind="stable").reshape(groups, -1)


def phases(tokens_GM: npt.NDArray[np.int64], refresh: int) -> npt.NDArray[np.int64]:
    """The phase, 0 to refresh - 1, in which each token has its turn (N): as many in each, all over the frame, and as many of
    each group. `tokens_GM`: see `group_tokens`."""
    share_M = (np.arange(tokens_GM.shape[1]) * GOLDEN) % 1
    phase_N = np.empty(tokens_GM.size, np.int64)
    phase_N[tokens_GM] = np.floor(share_M * refresh).astype(np.int64)
    return phase_N
