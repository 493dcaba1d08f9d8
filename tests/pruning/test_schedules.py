"""What policies share whose tokens leave for good: their places, the counts that they can have, that nobody comes back."""

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape, TokenPolicy
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.schedules import spread
from edgeprune.pruning.selection import select_over, select_top
from tests import models

NAMES = ["dynamicvit", "evit"]


def policy(name: str, depth: int, **options: object) -> TokenPolicy:
    return make_policy(PolicySpec(name=name, options=options), Shape(192, depth, (24, 32), 11))


@pytest.mark.parametrize("name", NAMES)
def test_stages_lie_before_blocks_3_6_9_and_in_proportion(name: str) -> None:
    assert policy(name, 12).gated == (3, 6, 9)
    assert policy(name, 24).gated == (6, 12, 18)
    assert policy(name, 4).gated == (1, 2, 3)
    assert policy(name, 12, keep=[0.5]).gated == (6,)
    assert policy(name, 12).schedule.target_counts == (538, 376, 263)
    assert policy(name, 12).schedule.block_counts((538, 376, 263)) == (768,) * 3 + (538,) * 3 + (376,) * 3 + (263,) * 3


@pytest.mark.parametrize("name", NAMES)
def test_what_can_not_be_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="3 stages need a model of 4 blocks or more, this has 3"):
        policy(name, 3)
    with pytest.raises(InputError, match=r"keep=\[0.5, 0.6\] rises"):
        policy(name, 12, keep=[0.5, 0.6])
    with pytest.raises(InputError, match=f"policy {name}: pruned"):
        policy(name, 12, pruned="zeros")


def test_counts_are_raised_to_what_comes_after() -> None:
    assert policy("evit", 12).schedule.round_up((3, 10, 7)) == (10, 10, 7)


@pytest.mark.parametrize("name", [*NAMES, "ats"])
def test_a_threshold_under_every_score_takes_nobody_back(name: str) -> None:
    model = models.model(models.card(name))
    best, low = select_top(model.policy.schedule.candidates([10, 10, 10])), select_over([-1e9] * 3)
    with torch.no_grad():
        keeps = model(
            models.images(2), lambda gate, scores_BN: (low if gate else best)(gate, scores_BN)
        ).masked.keep_GBN
    assert keeps[0].sum() == 20 and all(torch.equal(keep_BN, keeps[0]) for keep_BN in keeps)


def test_few_values_are_spread_over_many_decisions() -> None:
    assert spread([0.7, 0.49, 0.343], 9) == (0.7,) * 3 + (0.49,) * 3 + (0.343,) * 3
    assert spread([1, 2], 3) == (1, 1, 2)
    assert spread([1, 2, 3], 2) == (1, 2) and spread([1], 0) == ()
