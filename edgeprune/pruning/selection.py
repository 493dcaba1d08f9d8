"""Selections: which of its candidates a decision chooses, given their scores (larger = keep).

Shapes: B batch, N tokens of the full grid, S candidates of a decision, K of them chosen.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeprune.model.policy import EXCLUDED_SCORE, Select
from edgeprune.model.schedule import Schedule
from edgeprune.pruning.stagger import even_scores, turns


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


def select_staggered(schedule: Schedule, counts: Sequence[int], gates: Sequence[int]) -> Select:
    """As `select_uniform`, and from gate to gate the pattern moves on: no token misses a second block before all others have
    missed one. What is the same everywhere starves the same tokens at every gate; this is the stronger control.

    Args:
        gates: the decisions, in their order, that let tokens skip a block and take them back (`TokenPolicy.returning`); others
            are as in `select_uniform`.
    """
    even, best = select_uniform(schedule, counts), select_top(schedule.candidates(counts))
    there, shares = schedule.tokens, []
    for decision, count in enumerate(counts):
        if decision in gates:
            shares.append(count / there)
        else:  # what it takes away stays away
            there = count
    grid = schedule.candidate_grid(gates[0])
    assert grid is not None  # what a gate chooses of are tokens
    turn_of = dict(zip(gates, turns(grid, shares), strict=True))

    def select(decision: int, scores_BS: Tensor) -> Tensor:
        if decision not in turn_of:
            return even(decision, scores_BS)
        table_BS = turn_of[decision].to(scores_BS.device).expand_as(scores_BS)
        return best(decision, table_BS.masked_fill(scores_BS <= EXCLUDED_SCORE, EXCLUDED_SCORE))

    return select


def select_none(decision: int, scores_BS: Tensor) -> Tensor:
    """Chooses nothing: no gated block runs on any token, which says what these blocks are worth."""
    return torch.zeros_like(scores_BS)


def select_all(decision: int, scores_BS: Tensor) -> Tensor:
    """Chooses everything: the dense model."""
    return torch.ones_like(scores_BS)
