"""Selections: which of its candidates a decision chooses, given their scores (larger = keep).

Shapes: B batch, N tokens of the full grid, S candidates of a decision, K of them chosen.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeprune.model.policy import EXCLUDED_SCORE, Select
from edgeprune.model.schedule import Schedule


def select_top(candidates: Sequence[int]) -> Select:
    """Chooses so many candidates of the best scores, of each image and decision: what the graph of a bucket does with
    `schedule.candidates` of its counts."""

    def select(decision: int, scores_BS: Tensor) -> Tensor:
        top_BK = scores_BS.topk(candidates[decision], dim=-1).indices
        return torch.zeros_like(scores_BS).scatter_(-1, top_BK, 1.0)

    return select


def select_over(thresholds: Sequence[float]) -> Select:
    """Chooses what lies over each decision's calibrated threshold: the dynamic rate, without buckets."""

    def select(decision: int, scores_BS: Tensor) -> Tensor:
        return (scores_BS > thresholds[decision]).to(scores_BS.dtype)

    return select


def select_random(candidates: Sequence[int], generator: torch.Generator) -> Select:
    """Chooses as many as `select_top`, drawn blindly of what is offered: the control of every claim about a policy."""

    def select(decision: int, scores_BS: Tensor) -> Tensor:
        drawn_BS = torch.rand(scores_BS.shape, generator=generator).to(scores_BS.device)
        return select_top(candidates)(decision, drawn_BS.masked_fill(scores_BS <= EXCLUDED_SCORE, EXCLUDED_SCORE))

    return select


def select_uniform(schedule: Schedule, counts: Sequence[int]) -> Select:
    """Chooses as many as `select_top`, spread evenly over the grid, tokens as well as cells that may merge: of those that are
    offered the best of a constant table. Where groups from anywhere merge (`tome`, `algm`) the policy's own choice is made:
    they have no places to spread."""
    best = select_top(schedule.candidates(counts))

    def select(decision: int, scores_BS: Tensor) -> Tensor:
        grid = schedule.candidate_grid(decision)
        if grid is None or not scores_BS.shape[1]:  # a region has none of the largest cells
            return best(decision, scores_BS)
        table_BS = even_scores(grid, scores_BS.device).expand_as(scores_BS)
        return best(decision, table_BS.masked_fill(scores_BS <= EXCLUDED_SCORE, EXCLUDED_SCORE))

    return select


def select_none(decision: int, scores_BS: Tensor) -> Tensor:
    """Chooses nothing: no gated block runs on any token, which says what these blocks are worth."""
    return torch.zeros_like(scores_BS)


def select_all(decision: int, scores_BS: Tensor) -> Tensor:
    """Chooses everything: the dense model."""
    return torch.ones_like(scores_BS)


def even_scores(grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """A score (N,) for each cell, all different, whose best K lie evenly over the grid for any K.

    The fractional part of row / g + column / g^2, g the plastic number: the lattice of Roberts' R2 sequence, of which any
    interval of values is spread evenly. Ranks instead of the values themselves, which float32 would round to ties.
    """
    plastic = 1.32471795724474602596
    rows_H1 = torch.arange(grid[0], dtype=torch.float64, device=device)[:, None]
    columns_W = torch.arange(grid[1], dtype=torch.float64, device=device)
    values_N = ((rows_H1 / plastic + columns_W / plastic**2) % 1.0).flatten()
    return (values_N.argsort().argsort() + 0.5).float() / values_N.numel()
