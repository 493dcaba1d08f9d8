"""Decisions, the blocks they precede, and what counts mean."""

import pytest

from edgeprune.model.schedule import Schedule
from tests import models


def test_each_block_processes_what_the_last_decision_before_it_left() -> None:
    for gated, expected in (((), (24,) * 6), ((4, 5), (24, 24, 24, 24, 16, 8)), ((1, 3, 3), (24, 16, 16, 4, 4, 4))):
        schedule = Schedule(6, models.GRID, gated)
        counts = (16, 8, 4)[: len(gated)]
        assert schedule.block_counts(counts) == expected
        assert schedule.token_layers(counts) == sum(expected)
        assert schedule.relative_token_layers([count / 24 for count in counts]) == pytest.approx(
            sum(expected) / (6 * 24)
        )


def test_decisions_and_blocks_find_each_other() -> None:
    schedule = Schedule(5, (4, 6), (1, 3, 3))
    assert [list(schedule.decisions_at(block)) for block in range(5)] == [[], [0], [], [1, 2], []]
    assert [schedule.decided(block) for block in range(5)] == [0, 1, 1, 3, 3]
    assert schedule.trunk_depth == 1 and Schedule(5, (4, 6)).trunk_depth == 5


def test_targets_are_counts_of_the_grid_that_is_asked() -> None:
    schedule = Schedule(5, (4, 6), (1, 3), (0.5, 0.01))
    assert schedule.target_counts == (12, 1) and schedule.on((10, 10)).target_counts == (50, 1)
