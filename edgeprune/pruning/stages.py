"""Stages: the inference form of gates whose tokens leave for good, which several methods share.

Shapes: N tokens of the full grid, K tokens that remain, S scores, D width.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from edgeprune.model.policy import Gathered, TokenPolicy
from edgeprune.pruning.token_index import TokenIndex


def gather_stages(
    policy: TokenPolicy,
    blocks: Sequence[nn.Module],
    x_ND: Tensor,
    counts: Sequence[int],
    scores_S: Tensor,
    empty_1D: Tensor | None,
) -> Gathered:
    """TopK -> gather per decision, by `policy.scores`; the full grid is put together once, at the end.

    Args:
        empty_1D: what a cell gets whose token left; None: the features it left with.
    """
    index = TokenIndex(x_ND, policy.tokens)
    for number, block in enumerate(blocks, start=policy.schedule.trunk_depth):
        for gate in policy.schedule.decisions_at(number):
            if counts[gate] < x_ND.shape[0]:
                scores_K = policy.scores(gate, x_ND) if gate else scores_S
                x_ND = x_ND.index_select(0, index.leave_but_best(x_ND, scores_K, counts[gate]))
        x_ND = block(x_ND)
    grid_ND = index.preserved(x_ND) if empty_1D is None else index.filled(x_ND, empty_1D)
    return Gathered(grid_ND, index.selected_GK)
