"""How often buckets may change, whatever would be in time."""

from itertools import pairwise

import numpy as np
import pytest

from edgeprune.runtime.budget.steady import EARNED, MOST_SAVED, PATIENCE, Steady

FRAMES = 4000


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_buckets_change_no_more_often_than_the_purse_allows_and_never_exceed_what_is_in_time(share: float) -> None:
    chance = np.random.default_rng(0)
    steady = Steady(1)
    fits = [int(chance.random() > share) for _ in range(FRAMES)]
    got = [steady.update(each) for each in fits]
    assert all(one <= most for one, most in zip(got, fits, strict=True))
    assert sum(one != other for one, other in pairwise(got)) <= MOST_SAVED + EARNED * FRAMES


def test_it_goes_up_to_what_every_frame_of_some_in_a_row_would_have_borne() -> None:
    steady = Steady(0)
    assert [steady.update(each) for each in (3, 2, 3, 3)] == [0] * (PATIENCE - 1) + [2]


def test_a_single_frame_that_none_is_in_time_for_costs_a_few_frames() -> None:
    steady = Steady(4)
    assert [steady.update(each) for each in (4, -1, 4, 4, 4, 4, 4)] == [4, 0, 0, 0, 0, 4, 4]
