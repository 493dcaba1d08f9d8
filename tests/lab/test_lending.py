"""Lending between frames, on made-up answers."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.lab.lending import Answers, by_labels, lend, main, out_of_order, study
from tests import bundles, models

FIRST_B, COST_B = np.array([100, 200, 300]), np.array([10.0, 20.0, 30.0])


def test_a_mean_cost_is_kept_and_the_neediest_get_the_most() -> None:
    need_F = np.tile([90, 90, 90, 290], 50)
    chosen_F = lend(need_F, FIRST_B, COST_B, 15.0)
    assert COST_B[chosen_F[64:]].mean() == pytest.approx(15.0, abs=0.3)
    assert (chosen_F[3::4] == 2).all() and (chosen_F[64:][need_F[64:] == 90] == 0).all()


def test_where_there_is_room_all_get_the_most_and_where_there_is_none_the_least() -> None:
    need_F = np.array([90, 150, 290, 250])
    assert lend(need_F, FIRST_B, COST_B, 30.0).tolist() == [2, 2, 2, 2]
    assert lend(need_F, FIRST_B, COST_B, 5.0).tolist() == [0, 0, 0, 0]


def answers(hard_gain: int) -> Answers:
    """Two classes, 100 pixels; easy frames are right in 90 in every bucket, hard ones in 50 and more in larger ones."""
    need_F = np.tile([90, 290], 64)
    counts = np.zeros((128, 3, 2, 2), np.int64)
    for frame, need in enumerate(need_F):
        for bucket in range(3):
            right = 90 if need < 200 else 50 + hard_gain * bucket
            counts[frame, bucket] = [[right // 2, 50 - right // 2], [50 - right // 2, right // 2]]
    return Answers(need_F, counts, COST_B, FIRST_B, ["a", "b", "c"])


def test_lending_wins_where_larger_buckets_help_the_needy_and_random_does_not() -> None:
    middle = study(answers(hard_gain=20))[1]
    assert middle.lent_ms == pytest.approx(20.0, abs=0.5)
    assert middle.lent > max(middle.fixed, middle.random) + 0.1
    assert middle.lent == pytest.approx(middle.by_labels, abs=1e-3)


def test_where_no_bucket_helps_all_are_equal() -> None:
    for row in study(answers(hard_gain=0)):
        assert row.fixed == row.lent == row.random == row.by_labels and row.random_spread == 0


def test_the_best_choice_is_found_where_all_can_be_tried() -> None:
    """Of seven frames in three buckets, 2,187 choices: none at the mean cost of the middle one has a larger mIoU."""
    generator = np.random.default_rng(3)
    counts = (
        generator.integers(1, 60, (7, 3, 3, 3)) + 40 * np.eye(3, dtype=np.int64) * np.arange(1, 4)[None, :, None, None]
    )
    made = Answers(np.zeros(7, np.int64), counts, COST_B, FIRST_B, ["a", "b", "c"])
    choices = (np.array(choice) for choice in product(range(3), repeat=7))
    best = max(made.miou(choice) for choice in choices if COST_B[choice].mean() <= 20.0 + 1e-9)
    found_F = by_labels(made, 1)
    assert COST_B[found_F].mean() <= 20.0 + 1e-9
    assert made.miou(np.ones(7, np.int64)) < best - 0.01
    assert made.miou(found_F) == pytest.approx(best, abs=2e-3)


def test_who_knows_the_labels_never_does_worse_than_a_fixed_bucket() -> None:
    generator = np.random.default_rng(0)
    made = Answers(np.zeros(40, np.int64), generator.integers(0, 9, (40, 3, 2, 2)), COST_B, FIRST_B, ["a", "b", "c"])
    for row in study(made):
        assert row.by_labels >= row.fixed


def test_times_that_are_not_in_order_are_said() -> None:
    made = answers(hard_gain=0)
    assert out_of_order(made) is None
    warning = out_of_order(replace(made, cost_B=np.array([10.0, 31.0, 30.0])))
    assert warning is not None and "a 10.0 ms, b 31.0 ms, c 30.0 ms" in warning


def test_data_of_other_classes_are_refused(tmp_path: Path) -> None:
    bundles.write_bundle(tmp_path / "tiny")
    typed = [str(tmp_path / "tiny"), "--data", models.write_street(tmp_path), "--frames", "2"]
    with pytest.raises(InputError, match="has 11 classes, bundle .*tiny 8; score it on data with the classes"):
        CliRunner().invoke(main, typed, catch_exceptions=False)
