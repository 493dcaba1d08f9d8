"""Stages: what methods share whose tokens leave for good.

Shapes: B batch, N tokens of the full grid, K tokens that remain, J of them after a stage, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import GONE, Shape, TokenPolicy


class Stages(TokenPolicy):
    """A decision before each block of `gated`, which leaves `keep` of the grid's tokens; the others do not come back."""

    def __init__(self, shape: Shape, gated: Sequence[int], keep: Sequence[float]):
        super().__init__(shape)
        if list(keep) != sorted(keep, reverse=True):
            raise InputError(f"policy: keep={list(keep)} rises, but a token that left does not come back")
        self.gated, self.keep = tuple(gated), tuple(keep)

    @property
    def target_keep(self) -> tuple[float, ...]:
        return self.keep

    def feasible(self, counts: Sequence[int]) -> tuple[int, ...]:
        return never_rising(counts)


def never_rising(counts: Sequence[int]) -> tuple[int, ...]:
    """The smallest counts that never rise, none under those given."""
    return tuple(max(counts[stage:]) for stage in range(len(counts)))


def spaced(shape: Shape, stages: int) -> tuple[int, ...]:
    """The blocks that stages at even distances precede: 3, 6 and 9 of 12, in proportion for other depths.

    Raises:
        InputError: more stages than there are places between blocks.
    """
    if stages >= shape.depth:
        raise InputError(f"policy: {stages} stages need a model of {stages + 1} blocks or more, this has {shape.depth}")
    return tuple((stage + 1) * shape.depth // (stages + 1) for stage in range(stages))


def on_grid(scores_K: Tensor, cells_K: Tensor, tokens: int) -> Tensor:
    """Scores of rows at their cells of the grid (N,); `GONE` at those that no row stands for."""
    return scores_K.new_full((tokens,), GONE).scatter(0, cells_K, scores_K)


class Remaining:
    """In the inference form: which rows of a graph's tokens stand for which cells of the grid.

    `cells_K` has the cell of each row, `row_N` the row of each cell; of a cell whose token left it is K, one past the end.
    """

    def __init__(self, x_ND: Tensor):
        self.tokens = x_ND.shape[0]
        self.cells_K = torch.arange(self.tokens, device=x_ND.device)
        self.row_N = self.cells_K
        # what stood in the rows before each stage, and the row of these, one after the other, that a cell has last
        self.parts: list[Tensor] = []
        self.last_N = self.row_N

    def keep(self, x_KD: Tensor, scores_K: Tensor, count: int) -> Tensor:
        """The rows (J,) of the `count` best tokens; from here on they are the rows 0 to J - 1.

        Scores go back to the grid for the selection: TopK then names cells, whatever order an engine has its rows in.

        Args:
            x_KD: (K or more, D); rows past the tokens stand for no cell.
        """
        scores_N = scores_K
        if self.parts:
            scores_N = on_grid(scores_K, self.cells_K, self.tokens)
        self.cells_K = scores_N.topk(count, sorted=False).indices
        rows_J = self.row_N.index_select(0, self.cells_K)
        self.parts.append(x_KD)
        self.row_N = self._rows(torch.full_like(self.row_N, count), 0)
        self.last_N = self._rows(self.last_N, sum(part.shape[0] for part in self.parts))
        return rows_J

    def _rows(self, rows_N: Tensor, first: int) -> Tensor:
        """`rows_N` with the rows from `first` on at the cells of the tokens that remain."""
        new_K = torch.arange(first, first + self.cells_K.shape[0], device=rows_N.device)
        return rows_N.scatter(0, self.cells_K, new_K)

    def preserved(self, x_KD: Tensor) -> Tensor:
        """The full grid (N, D): the tokens `x_KD`, and those that left as they left."""
        if not self.parts:
            return x_KD
        return torch.cat((*self.parts, x_KD)).index_select(0, self.last_N)

    def filled(self, x_KD: Tensor, fill_1D: Tensor) -> Tensor:
        """The full grid (N, D): the tokens `x_KD`, and one row wherever a token left."""
        return torch.cat((x_KD, fill_1D)).index_select(0, self.row_N) if self.parts else x_KD

    def over(self, fill_ND: Tensor, x_KD: Tensor) -> Tensor:
        """The full grid (N, D): the tokens `x_KD`, and wherever a token left the cell's own row of `fill_ND`."""
        own_N = torch.arange(self.tokens, device=x_KD.device)
        return torch.cat((fill_ND, x_KD)).index_select(0, self._rows(own_N, self.tokens))
