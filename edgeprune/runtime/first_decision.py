"""What the first decision of a policy makes of a frame's tokens, from the scores that the trunk leaves for its tails.

No graph computes anything for it: a tail takes a constant number of the best scores (TopK), and the same can be done here
whenever somebody wants to see it.

Shapes: Gh Gw patches of the grid, S scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgeprune.bundle import Manifest
from edgeprune.bundle.memory import TURN, group_tokens
from edgeprune.runtime.engines.bound import Array, UInt8

SIDES = (16, 8, 4, 2)  # that merged cells may have, in patches
# What the scores of a policy's trunk are of: True: square cells, of which those with the lowest become one token each; False:
# tokens, of which those with the highest go on. One that isn't here shows nothing.
MERGES = {
    "svit": False,
    "random": False,
    "uniform": False,
    "dynaprune": False,
    "dynamicvit": False,
    "evit": False,
    "evovit": False,
    "dtop": False,
    "algm": True,
    "cts": True,
    "step": True,
    "cts-svit": True,
    "combined": True,
}


@dataclass(frozen=True)
class FirstDecision:
    """That of a bundle's policy.

    Attributes:
        grid: (Gh, Gw).
        merges: whether it merges cells; else it lets tokens go.
        counts: of each bucket, the tokens that remain after each decision; of superpatches each side is one, the largest
            first.
        remembers: whether scores of TURN and more are those of tokens whose turn it is.
        groups: of tokens (`bundle.memory.group_tokens`), of each of which as many go on.
    """

    grid: tuple[int, int]
    merges: bool
    counts: Mapping[str, Sequence[int]]
    remembers: bool = False
    groups: int = 1

    @classmethod
    def of(cls, manifest: Manifest) -> "FirstDecision | None":
        """None where there is none to show: of the dense policy, and of one that isn't in MERGES. Of a region's tokens neither:
        they have a grid of their own (`model/inside.py`)."""
        grid = manifest.grid
        known = manifest.policy in MERGES and manifest.region is None and grid[0] * grid[1] == manifest.tokens
        if not known or not manifest.buckets[-1].counts:
            return None
        return cls(grid, MERGES[manifest.policy], {bucket.name: bucket.counts for bucket in manifest.buckets})

    @classmethod
    def remembered(cls, manifest: Manifest) -> "FirstDecision | None":
        """Which tokens a frame computes, where it remembers those before. `manifest`: of the buckets of a memory."""
        grid = manifest.grid
        if grid[0] * grid[1] != manifest.tokens:
            return None
        memory = manifest.memory
        assert memory is not None  # whose buckets these are
        counts = {bucket.name: [bucket.first] for bucket in manifest.buckets}
        return cls(grid, False, counts, remembers=True, groups=memory.groups)

    def levels(self, scores_S: Array, bucket: str) -> UInt8 | None:
        """(Gh, Gw): 0 for a token that is let go, 1 for one of its own, the side of its cell for one that is merged; None where
        the scores are of something else."""
        counts = self.counts[bucket]
        tokens = self.grid[0] * self.grid[1]
        if self.merges and len(scores_S) != tokens:  # a policy that may merge may have no cells to merge
            sides = sides_of(self.grid, len(scores_S))
            return _merged(scores_S, sides, self.grid, counts) if sides else None
        if len(scores_S) != tokens:
            return None
        level_N = np.zeros(tokens, np.uint8)
        for group_M in group_tokens(self.grid, self.groups):
            level_N[group_M[_most(scores_S[group_M], counts[0] // self.groups)]] = 1
        return level_N.reshape(self.grid)


@dataclass(frozen=True, eq=False)
class TokenMap:
    """What the first decision made of a frame.

    Attributes:
        decision: whose it is.
        scores_S: of the frame's trunk.
        bucket: that the frame got.
    """

    decision: FirstDecision
    scores_S: Array
    bucket: str

    @cached_property
    def level_GG(self) -> UInt8 | None:
        """See `FirstDecision.levels`; computed when it is first asked for."""
        return self.decision.levels(self.scores_S.astype(np.float32), self.bucket)

    @property
    def turn_GG(self) -> npt.NDArray[np.bool_] | None:
        """(Gh, Gw): True for a token that was computed as it was its turn; None where none has one."""
        if not self.decision.remembers or self.level_GG is None:
            return None
        turn_GG: npt.NDArray[np.bool_] = (self.level_GG > 0) & (self.scores_S.reshape(self.level_GG.shape) >= TURN)
        return turn_GG

    @property
    def left(self) -> int | None:
        """How many tokens remain."""
        if self.level_GG is None:
            return None
        level_N = self.level_GG[self.level_GG > 0].astype(np.float64)
        return round(float((1 / level_N**2).sum()))

    @property
    def tokens(self) -> int:
        """How many there were."""
        return self.decision.grid[0] * self.decision.grid[1]


def sides_of(grid: tuple[int, int], scores: int) -> list[int]:
    """The sides of the cells, the largest first, of which a trunk gives so many scores; none where they can't be of cells.

    There is one answer: of each side there are more cells than of all larger ones together.
    """
    found: list[int] = []
    for side in reversed(SIDES):
        cells = _count(grid, side)
        if cells and scores >= cells:
            found.insert(0, side)
            scores -= cells
    return [] if scores else found


def _merged(scores_S: Array, sides: Sequence[int], grid: tuple[int, int], counts: Sequence[int]) -> UInt8:
    """The cells with the lowest scores merge, the largest side first, none inside another: as `superpatches.choose_cells`."""
    level_GG = np.ones(grid, np.uint8)
    tokens, first = grid[0] * grid[1], 0
    for side, left in zip(sides, counts, strict=False):
        rows, columns = grid[0] // side, grid[1] // side
        score_RC = scores_S[first : first + rows * columns].reshape(rows, columns)
        first += rows * columns
        corner_RC = level_GG[: rows * side : side, : columns * side : side]
        offered_RC = np.where(corner_RC > 1, np.inf, score_RC)
        chosen_RC = np.zeros(rows * columns, np.bool_)
        chosen_RC[_most(-offered_RC.ravel(), (tokens - left) // (side * side - 1))] = True
        tokens = left
        inside_GG = chosen_RC.reshape(rows, columns).repeat(side, 0).repeat(side, 1)
        level_GG[: rows * side, : columns * side][inside_GG] = side
    return level_GG


def _most(values_S: Array, count: int) -> npt.NDArray[np.intp]:
    """Where the `count` highest are."""
    count = min(max(count, 0), len(values_S))
    return np.argpartition(-values_S, count - 1)[:count] if count else np.empty(0, np.intp)


def _count(grid: tuple[int, int], side: int) -> int:
    return (grid[0] // side) * (grid[1] // side)
