"""Token indices: in a graph of constant counts, the new place of each old token and the way back.

Only indices are scattered, rows of features are gathered whole: a scatter of rows costs an engine far more. TopK names cells
of the grid, so that the order in which an engine has its rows does not matter.

Shapes: N tokens of the full grid, K rows of a graph's tokens, J of them that stay, M places, R of them that go, D width.
"""

import torch
from torch import Tensor, nn

from edgeprune.model.policy import EXCLUDED_SCORE


class TokenIndex:
    """Which rows of one frame's tokens stand for which cells of the grid, as tokens leave for good.

    Attributes:
        cells_K: the cell of each row.
        row_N: the row of each cell; of a cell whose token left it is K, one past the end.
        last_N: of each cell the row that it had last, counted through the rows before each departure and those of now.
        selected_GK: the cells that each departure left.
    """

    def __init__(self, x_KD: Tensor, tokens: int, cells_K: Tensor | None = None):
        """`cells_K`: None: all cells in order."""
        rows, device = x_KD.shape[0], x_KD.device
        self.in_order = cells_K is None
        if cells_K is None:
            self.cells_K = self.row_N = torch.arange(tokens, device=device)
        else:
            self.cells_K, self.row_N = cells_K, renumbered(torch.full((tokens,), rows, device=device), cells_K, 0)
        self.last_N = self.row_N
        self.before: list[Tensor] = []  # the rows before each departure
        self.selected_GK: list[Tensor] = []

    def on_grid(self, scores_K: Tensor) -> Tensor:
        """Scores of rows at their cells of the grid (N,); `EXCLUDED_SCORE` at those that no row stands for."""
        if self.in_order:
            return scores_K
        return scores_K.new_full(self.row_N.shape, EXCLUDED_SCORE).scatter(0, self.cells_K, scores_K)

    def rows_of(self, cells_J: Tensor) -> Tensor:
        """The rows (J,) that stand for these cells."""
        return self.row_N.index_select(0, cells_J)

    def leave(self, x_KD: Tensor, cells_J: Tensor) -> None:
        """All tokens leave but those of `cells_J`, which are the rows 0 to J - 1 from here on.

        Args:
            x_KD: (K or more, D) as they leave; rows past the tokens stand for no cell.
        """
        self.before.append(x_KD)
        self.in_order, self.cells_K = False, cells_J
        self.selected_GK.append(cells_J)
        self.row_N = renumbered(torch.full_like(self.row_N, cells_J.shape[0]), cells_J, 0)
        self.last_N = renumbered(self.last_N, cells_J, sum(part.shape[0] for part in self.before))

    def leave_but_best(self, x_KD: Tensor, scores_K: Tensor, count: int) -> Tensor:
        """All tokens leave but the `count` of the best scores; returns the rows (J,) that these had."""
        cells_J = self.on_grid(scores_K).topk(count, sorted=False).indices
        rows_J = self.rows_of(cells_J)
        self.leave(x_KD, cells_J)
        return rows_J

    # -------------------------------------------------------------------------------- back to the full grid, (N, D)

    def preserved(self, x_KD: Tensor) -> Tensor:
        """The tokens `x_KD`, and those that left as they left."""
        return torch.cat((*self.before, x_KD)).index_select(0, self.last_N) if self.before else x_KD

    def filled(self, x_KD: Tensor, fill_1D: Tensor) -> Tensor:
        """The tokens `x_KD`, and one row wherever a token left."""
        return torch.cat((x_KD, fill_1D)).index_select(0, self.row_N) if self.before else x_KD

    def over(self, fill_ND: Tensor, x_KD: Tensor) -> Tensor:
        """The tokens `x_KD`, and wherever a token left the cell's own row of `fill_ND`."""
        return torch.cat((fill_ND, x_KD)).index_select(0, replaced_rows(self.cells_K, fill_ND.shape[0]))


def renumbered(rows_N: Tensor, cells_K: Tensor, first: int) -> Tensor:
    """`rows_N` with the rows from `first` on at these cells, in their order."""
    new_K = torch.arange(first, first + cells_K.shape[0], device=rows_N.device)
    return rows_N.scatter(0, cells_K, new_K)


def replaced_rows(kept_K: Tensor, rows: int) -> Tensor:
    """Where rows are found when the new ones of `kept_K` are put behind all old ones: their own place, or the new row."""
    return renumbered(torch.arange(rows, device=kept_K.device), kept_K, rows)


def run_on(kept_K: Tensor, block: nn.Module, x_ND: Tensor) -> Tensor:
    """A block on the kept rows alone; the others are preserved."""
    y_KD = block(x_ND.index_select(0, kept_K))
    rows_N = replaced_rows(kept_K, x_ND.shape[0])
    return torch.cat((x_ND, y_KD)).index_select(0, rows_N)


def compaction_maps(gone_R: Tensor, there: int) -> tuple[Tensor, Tensor]:
    """What becomes of places when some go, whatever the order in which a TopK named them. Counted by comparison: no sort,
    no NonZero, and no CumSum, which engines run as a loop.

    Returns:
        the new place of each that stays (of one that goes: of the next that stays) (M), the old place of each new one (K).
    """
    old_M = torch.arange(there, device=gone_R.device)
    new_M = old_M - (gone_R < old_M[:, None]).sum(-1, dtype=torch.int32)  # INT64 takes three times as long
    new_K = torch.arange(there - gone_R.shape[0], device=gone_R.device)
    return new_M, new_K + (new_M.index_select(0, gone_R) <= new_K[:, None]).sum(-1, dtype=torch.int32)
