"""Presets are data: each is the combination that its settings stand for, weight by weight."""

from typing import Any

import pytest
import torch

from edgeprune.model.policy import Shape
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.presets import PRESETS

SHAPE = Shape(192, 12, (24, 32), 11)
EXIT: dict[str, Any] = {"exits": [4, 8], "keep": [0.7, 0.5], "confidence": 0.9, "context": 2}
# settings of a preset -> settings of `combined`
SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cts": ({"keep": 0.7}, {"levels": [[2, 0.4]]}),
    "dtop": (EXIT, {"exits": EXIT}),
    "step": (EXIT | {"levels": [[4, 0.2], [2, 0.3]]}, {"levels": [[4, 0.2], [2, 0.3]], "exits": EXIT}),
    "cts-svit": (
        {"merged": 0.7, "first": 4, "keep": [0.8, 0.5], "anneal": 0.5},
        {"levels": [[2, 0.4]], "gates": {"first": 4, "keep": [0.8, 0.5], "anneal": 0.5}},
    ),
}


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "combined"])
def test_a_preset_is_a_combination(name: str) -> None:
    own, parts = SAME[name]
    made = []
    for spec in (PolicySpec(name=name, options=own), PolicySpec(name="combined", options=parts)):
        torch.manual_seed(0)
        made.append(make_policy(spec, SHAPE))
    preset, combined = made
    assert preset.schedule.gated == combined.schedule.gated
    assert preset.schedule.target_shares == pytest.approx(combined.schedule.target_shares)
    first, second = preset.state_dict(), combined.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
