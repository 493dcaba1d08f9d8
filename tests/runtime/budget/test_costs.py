"""The probability of being late, from frames whose times are made up."""

import pytest

from edgeprune.runtime.budget.costs import ALIKE, PRIOR_FRAMES, PRIOR_LATE, SCATTER_FRAMES, BucketCosts


def test_what_counts_are_the_frames_whose_trunks_were_most_like_this_one() -> None:
    """Slow trunks are followed by tails that are slower still, usual ones by usual ones."""
    costs = BucketCosts({"small": [5.0], "large": [10.0]}, [10.0])
    for index in range(2 * SCATTER_FRAMES):
        slower = 1.7 if index % 2 else 1.0
        costs.notice_trunk(10.0 * slower)
        costs.learn("small", 5.0 * slower * (1.4 if index % 2 else 1.0))
        costs._base_ms["small"] = 5.0  # what is learned of it is no matter here
    none, all_of_them = PRIOR_LATE / (ALIKE + PRIOR_FRAMES), (ALIKE + PRIOR_LATE) / (ALIKE + PRIOR_FRAMES)
    costs.notice_trunk(10.0)
    assert costs.late("large", "small", left_ms=12.0) == pytest.approx(none)
    costs.notice_trunk(17.0)
    assert costs.late("large", "small", left_ms=20.0) == pytest.approx(all_of_them)
    assert costs.late("large", "small", left_ms=25.0) == pytest.approx(none)


def test_a_frame_that_the_smallest_bucket_would_miss_too_argues_for_nothing() -> None:
    costs = BucketCosts({"small": [5.0], "large": [10.0]}, [10.0])
    for index in range(SCATTER_FRAMES):
        costs.notice_trunk(10.0)
        costs.learn("small", 5.0 * (8.0 if index % 16 == 0 else 1.0))
        costs._base_ms["small"] = 5.0
    costs.notice_trunk(10.0)
    assert costs.late("large", "small", left_ms=20.0) < 0.005
    assert costs.late("large", "small", left_ms=50.0) > 0.03
