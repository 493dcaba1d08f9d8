"""How alike two label maps are."""

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.tasks import Agreement, find_task


def test_pixels_that_count_are_compared() -> None:
    expected_hw = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    got_hw = np.array([[0, 1, 7], [3, 9, 9]], np.uint8)
    agreement = find_task("semantic").agreement
    assert agreement({"labels": expected_hw}, {"labels": got_hw}) == Agreement(3, 6)
    sure_hw = np.array([[True, True, True], [False, False, False]])
    assert agreement({"labels": expected_hw}, {"labels": got_hw}, sure_hw) == Agreement(2, 3)
    assert (Agreement(3, 6) + Agreement(2, 3)).share == 5 / 9 and Agreement(0, 0).share == 0


def test_an_unknown_task_is_answered_with_the_choices() -> None:
    with pytest.raises(InputError, match=r"unknown task 'semntic'.*did you mean 'semantic'"):
        find_task("semntic")
