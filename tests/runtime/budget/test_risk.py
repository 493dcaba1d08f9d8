"""The risk that a frame may take, on frames whose probability of being late is known."""

import numpy as np
import pytest

from edgeprune.runtime.budget.risk import LATE, LEAST_RISK, MOST_RISK, Risk

FRAMES = 20_000


@pytest.mark.parametrize("wrong", [1.0, 2.0, 4.0])
def test_so_many_frames_are_late_in_the_long_run_however_wrong_the_probabilities_are(wrong: float) -> None:
    """Where the true probability is `wrong` times what is thought, by the formula alone it would be that much too often."""
    chance = np.random.default_rng(0)
    risk, late = Risk(), []
    for _ in range(FRAMES):
        thought = 0.1 * chance.random() ** 3
        late.append(thought <= risk.to_go_up and chance.random() < wrong * thought)
        risk.learn(late[-1])
    assert np.mean(late) == pytest.approx(LATE, rel=0.2)


def test_after_a_late_frame_a_bucket_is_not_kept_more_easily_than_taken() -> None:
    risk = Risk()
    assert risk.to_stay > risk.to_go_up
    risk.learn(late=True)
    assert risk.to_stay == risk.to_go_up
    risk.learn(late=False)
    assert risk.to_stay > risk.to_go_up


def test_it_has_bounds() -> None:
    risk = Risk()
    for _ in range(3000):
        risk.learn(late=False)
    assert risk.to_go_up == MOST_RISK
    for _ in range(10):
        risk.learn(late=True)
    assert risk.to_go_up == LEAST_RISK
