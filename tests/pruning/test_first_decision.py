"""What a device shows of the first decision is what the graphs select: of every policy that the live page knows."""

from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.pruning.methods import POLICIES
from edgeprune.runtime.first_decision import MERGES, FirstDecision
from tests import models
from tests.pruning.both_forms import selections

GRID = (8, 12)
FORMS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in MERGES),
    ("svit", {"reactivation": False}),
    ("combined", {"levels": [[4, 0.4], [2, 0.3]], "grid": (9, 14)}),  # the last row and columns lie in no cell
    ("combined", {"levels": [[8, 0.6], [2, 0.2]]}),
]


def test_every_other_policy_has_nothing_to_show() -> None:
    """ATS has no graphs, and pairs that merge are no cells."""
    assert set(POLICIES) - set(MERGES) == {"dense", "ats", "tome"}


@torch.no_grad()
@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
def test_it_is_what_the_tail_selects(name: str, options: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"depth": 4, "grid": GRID} | options
    model = models.model(models.card(name, **settings))
    schedule = model.policy.schedule
    image_HW3 = models.scene(100, model.spec.height, model.spec.width)[0]
    scores_S = model.trunk(torch.from_numpy(image_HW3))[2]
    assert scores_S is not None
    counts = list(schedule.round_up(schedule.target_counts))
    decision = FirstDecision(schedule.grid, MERGES[name], {"small": counts})
    level_GG = decision.levels(scores_S.numpy(), "small")
    selected = selections(model, torch.from_numpy(image_HW3).permute(2, 0, 1), counts)
    assert level_GG is not None and 0 < min(counts) < schedule.tokens
    if not MERGES[name]:
        np.testing.assert_array_equal(np.flatnonzero(level_GG), np.sort(selected[0].numpy()))
        return
    sides = getattr(schedule, "sides", (2,))
    chosen = iter(selected)
    for side, before, left in zip(sides, (schedule.tokens, *counts), counts, strict=False):
        rows, columns = (size // side for size in schedule.grid)
        corner_RC = level_GG[: rows * side : side, : columns * side : side]
        merged = set(next(chosen).tolist()) if left < before else set()
        assert set(np.flatnonzero(corner_RC == side).tolist()) == merged
    assert (1 / level_GG.astype(float) ** 2).sum() == pytest.approx(counts[len(sides) - 1])
