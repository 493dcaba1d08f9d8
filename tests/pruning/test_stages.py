"""What policies share whose tokens leave for good: their places, feasible counts, the blind control, the full grid."""

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.model.policy import GONE, Shape, select_over
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.stages import Remaining, Stages
from tests import models

NAMES = ["dynamicvit", "evit"]


def policy(name: str, depth: int, **options: object) -> Stages:
    made = make_policy(PolicySpec(name=name, options=options), Shape(192, depth, (24, 32), 11))
    assert isinstance(made, Stages)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_stages_lie_before_blocks_3_6_9_and_in_proportion(name: str) -> None:
    assert policy(name, 12).gated == (3, 6, 9)
    assert policy(name, 24).gated == (6, 12, 18)
    assert policy(name, 4).gated == (1, 2, 3)
    assert policy(name, 12, keep=[0.5]).gated == (6,)
    assert policy(name, 12).target_counts(768) == [538, 376, 263]
    assert policy(name, 12).block_counts((538, 376, 263)) == (768,) * 3 + (538,) * 3 + (376,) * 3 + (263,) * 3


@pytest.mark.parametrize("name", NAMES)
def test_what_can_not_be_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="3 stages need a model of 4 blocks or more, this has 3"):
        policy(name, 3)
    with pytest.raises(InputError, match=r"keep=\[0.5, 0.6\] rises"):
        policy(name, 12, keep=[0.5, 0.6])
    with pytest.raises(InputError, match=f"policy {name}: pruned"):
        policy(name, 12, pruned="zeros")


def test_feasible_counts_are_raised_to_what_comes_after() -> None:
    assert policy("evit", 12).feasible((3, 10, 7)) == (10, 10, 7)


def test_the_blind_control_draws_of_those_that_remain() -> None:
    made = policy("evit", 12)
    scores_BN = torch.randn(50, 8)
    scores_BN[:, ::2] = GONE
    keep_BN = made.select_random([3, 3, 3], torch.Generator().manual_seed(0))(1, scores_BN)
    assert (keep_BN.sum(-1) == 3).all() and not keep_BN[:, ::2].any()
    assert (keep_BN[:, 1::2].mean(0) - 0.75).abs().max() < 0.2  # any of the four, whatever their scores


def test_bf16_holds_the_score_of_a_token_that_left() -> None:
    assert float(torch.tensor(GONE, dtype=torch.bfloat16)) == GONE


@pytest.mark.parametrize("name", [*NAMES, "ats"])
def test_a_threshold_under_every_score_takes_nobody_back(name: str) -> None:
    model = models.model(models.card(name))
    best, low = model.policy.select_top([10, 10, 10]), select_over([-1e9] * 3)
    with torch.no_grad():
        keeps = model(
            models.images(2), lambda gate, scores_BN: (low if gate else best)(gate, scores_BN)
        ).masked.keep_GBN
    assert keeps[0].sum() == 20 and all(torch.equal(keep_BN, keeps[0]) for keep_BN in keeps)


def test_rows_and_cells_by_hand() -> None:
    """Six cells; 1, 3, 4 remain, then 4 alone. A row past the tokens stands for no cell."""
    x_ND = torch.arange(6.0)[:, None]
    remaining = Remaining(x_ND)
    rows_K = remaining.keep(x_ND, torch.tensor([0.0, 5, 1, 6, 7, 2]), 3)
    assert set(rows_K.tolist()) == {1, 3, 4} == set(remaining.cells_K.tolist())
    x_MD = torch.cat((x_ND[rows_K] + 10, torch.tensor([[99.0]])))
    assert remaining.preserved(x_MD)[:, 0].tolist() == [0, 11, 2, 13, 14, 5]
    scores_K = torch.tensor([float(cell == 4) for cell in remaining.cells_K.tolist()])
    rows_J = remaining.keep(x_MD, scores_K, 1)
    assert remaining.cells_K.tolist() == [4] and x_MD[rows_J].tolist() == [[14.0]]
    assert remaining.preserved(x_MD[rows_J] + 10)[:, 0].tolist() == [0, 11, 2, 13, 24, 5]
    assert remaining.filled(torch.tensor([[7.0]]), torch.tensor([[-1.0]]))[:, 0].tolist() == [-1, -1, -1, -1, 7, -1]
