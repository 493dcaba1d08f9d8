"""How many tokens have to be computed, from scores."""

import numpy as np
import pytest

from edgeprune.bundle.memory import TURN
from edgeprune.runtime.changed import count_changed, is_slight


def scores(noise: float, moved: int, due: int, tokens: int = 768) -> np.ndarray:
    drawn = np.random.default_rng(0)
    found = drawn.normal(noise, noise / 15, tokens).clip(0)
    found[:moved] = 1.0
    found[moved : moved + due] = TURN + 1
    return found.astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.04, 0.076, 0.19, 0.26])
def test_noise_of_any_strength_is_no_change(noise: float) -> None:
    """As embeddings of the zoo's model differ by noise of 0, 1, 2, 5 and 7 levels."""
    assert count_changed(scores(noise, 0, 0)) == [(0, 0)]
    assert count_changed(scores(noise, 30, 6)) == [(30, 6)]


def test_where_all_moves_all_has_changed() -> None:
    moving = np.random.default_rng(0).uniform(0.45, 2.5, 768).astype(np.float32)
    assert count_changed(moving) == [(768, 0)]


def test_what_changed_slightly() -> None:
    """No token by .4; whose turn it is says nothing."""
    found = scores(0.04, 0, 6)
    found[20:30] = 0.39
    assert is_slight(found) and count_changed(found) == [(10, 6)]
    found[40] = 0.4
    assert not is_slight(found) and is_slight(np.full(24, TURN + 3, np.float32))


def test_where_all_have_their_turn() -> None:
    assert count_changed(np.full(24, TURN + 3, np.float32)) == [(0, 24)]
