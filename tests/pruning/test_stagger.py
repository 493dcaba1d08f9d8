"""Turns: whoever missed a block is first in the next, beside what gates say and in the control that looks at nothing."""

from typing import Any

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.model.policy import EXCLUDED_SCORE, Shape
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.methods.svit import SViT
from edgeprune.pruning.selection import select_staggered, select_top, select_uniform
from edgeprune.pruning.stagger import turns

GRID = (24, 32)
TOKENS = 24 * 32


def times(masks: list[torch.Tensor]) -> tuple[int, int]:
    """How often the token that is taken least is taken, and the one that is taken most."""
    taken_N = torch.stack(masks).sum((0, 1))
    return int(taken_N.min()), int(taken_N.max())


@pytest.mark.parametrize("shares", [[0.5] * 6, [0.75, 0.75, 0.5, 0.5, 0.25, 0.25], [1 / 3] * 9])
def test_every_token_gets_its_turns(shares: list[float]) -> None:
    taken = [
        select_top([round(share * TOKENS)])(0, turn_N[None])
        for share, turn_N in zip(shares, turns(GRID, shares), strict=True)
    ]
    least, most = times(taken)
    assert sum(shares) - 1 <= least <= sum(shares) <= most <= sum(shares) + 1


def policy(name: str = "svit", grid: tuple[int, int] = GRID, **options: Any) -> SViT | Combination:
    made = make_policy(PolicySpec(name=name, options=options), Shape(192, 12, grid, 11))
    assert isinstance(made, SViT | Combination)
    return made


def test_between_tokens_that_gates_hold_for_the_same_turns_decide_and_no_others() -> None:
    gates = policy(stagger=2.0, keep=[0.5]).gates
    same_N, split_N = torch.zeros(TOKENS), torch.zeros(TOKENS)
    split_N[: TOKENS // 2] = 5.0
    least, most = times([select_top([TOKENS // 2])(0, gates.with_turn(gate, same_N)[None]) for gate in range(8)])
    assert (least, most) == (4, 4)
    for gate in range(8):
        taken_1N = select_top([TOKENS // 2])(0, gates.with_turn(gate, split_N)[None])
        assert torch.equal(taken_1N[0], (split_N > 0).float())
        assert 1.9 < float(gates.with_turn(gate, same_N).max() - gates.with_turn(gate, same_N).min()) <= 2.0


def test_without_it_gates_are_the_papers() -> None:
    gates = policy().gates
    scores_N = torch.randn(TOKENS)
    assert gates.with_turn(3, scores_N) is scores_N and not list(gates.buffers())


def test_a_file_of_weights_has_no_turns_and_fits_another_size() -> None:
    assert not [name for name in policy("cts-svit", stagger=1.0).state_dict() if "turns" in name]
    small, large = (policy(stagger=1.0, grid=grid) for grid in ((6, 8), GRID))
    large.load_state_dict(small.state_dict())
    scores_N = torch.zeros(TOKENS)
    assert torch.equal(small.gates.with_turn(2, scores_N, GRID), large.gates.with_turn(2, scores_N))


def test_tokens_that_do_not_come_back_take_no_turns() -> None:
    with pytest.raises(InputError, match="stagger"):
        policy(stagger=1.0, reactivation=False)


def test_the_control_takes_turns_at_gates_and_spreads_what_merges() -> None:
    made = policy("cts-svit", keep=[0.5], merged=0.62)
    schedule = made.schedule
    assert list(made.returning) == list(range(1, 10)) and list(policy("cts").returning) == []
    select, uniform = (
        select_staggered(schedule, schedule.target_counts, made.returning),
        select_uniform(schedule, schedule.target_counts),
    )
    cells_BS = torch.randn(1, TOKENS // 4)
    assert torch.equal(select(0, cells_BS), uniform(0, cells_BS))
    there_BN = torch.rand(1, TOKENS, generator=torch.Generator().manual_seed(0)) < 0.62
    scores_BN = torch.zeros(1, TOKENS).masked_fill(~there_BN, EXCLUDED_SCORE)
    for _ in range(2):  # frames begin anew
        masks = [select(gate, scores_BN) for gate in made.returning]
        assert all(
            int(mask_BN.sum()) == count for mask_BN, count in zip(masks, schedule.target_counts[1:], strict=True)
        )
        assert not any((mask_BN * ~there_BN).any() for mask_BN in masks)
        taken_N = torch.stack(masks).sum((0, 1))[there_BN[0]]
        expected = sum(schedule.target_counts[1:]) / int(there_BN.sum())
        starved_N = torch.stack([uniform(gate, scores_BN) for gate in made.returning]).sum((0, 1))[there_BN[0]] == 0
        assert (taken_N - expected).abs().mean() < 1.0
        assert (taken_N == 0).float().mean() < 0.02 and starved_N.float().mean() > 0.3
        first = torch.equal(masks[0], uniform(1, scores_BN))
        assert first and not torch.equal(masks[1], uniform(2, scores_BN))
