"""The groups of parameters, and the learning rate over a phase."""

from itertools import pairwise
from typing import Any

import pytest

from edgeprune.train.optimiser import learning_rate, make_optimiser, set_learning_rate
from edgeprune.train.recipe import Phase
from tests import models


def phase(**changes: Any) -> Phase:
    return Phase.model_validate({"kind": "dense", "data": [{"data": "street"}], "frames": 8} | changes)


def test_every_parameter_is_in_one_group_with_its_layers_rate_and_decay() -> None:
    model = models.model(models.card(depth=3, quantized=True))
    optimiser = make_optimiser(model, phase(layer_decay=0.5, weight_decay=0.1, policy_lr=20))
    set_learning_rate(optimiser, 1.0)
    group_of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(group_of) == len(trained)

    def group(name: str) -> tuple[float, float]:
        found = group_of[id(trained[name])]
        return found["lr"], found["weight_decay"]

    assert group("stem.proj.weight") == (0.5**4, 0.1)
    assert group("pos_embed") == (0.5**4, 0.0)
    assert group("blocks.0.attn.qkv.weight") == (0.5**3, 0.1)
    assert group("blocks.2.mlp.fc1.weight") == (0.5, 0.1)
    assert group("blocks.2.norm1.weight") == (0.5, 0.0)
    assert group("blocks.2.mlp.fc1.bias") == (0.5, 0.0)
    assert group("head.classify.weight") == (1.0, 0.1)
    assert group("policy.gates.0.fc1.weight") == (20.0, 0.1)
    scales = [name for name in trained if "_quantizer." in name]
    assert len(scales) == 24 and all(group(name)[1] == 0.0 for name in scales)


def test_what_of_a_stem_only_the_head_sees_learns_as_the_head_does() -> None:
    model = models.model(models.card(depth=2, stem="patch-conv"))
    optimiser = make_optimiser(model, phase(layer_decay=0.5))
    scale_of = {id(p): group["scale"] for group in optimiser.param_groups for p in group["params"]}
    scales = {name: scale_of[id(p)] for name, p in model.stem.named_parameters()}
    assert {name for name, scale in scales.items() if scale == 1.0} == {n for n in scales if n.startswith("stride")}
    assert scales["proj.weight"] == scales["proj.bias"] == 0.5**3 and len(scales) == 11


def test_the_rate_warms_up_and_follows_half_a_cosine() -> None:
    spec = phase(lr=1.0, warmup=0.1)
    rates = [learning_rate(spec, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0) and rates[55] == pytest.approx(0.505)
    assert rates[99] == pytest.approx(0.01, abs=0.001)
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert learning_rate(phase(lr=1.0, warmup=0.0), 0, 1) == 1.0
