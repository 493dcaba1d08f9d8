"""A phase that trains what of a policy looks at the image, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgeprune.base.errors import InputError
from edgeprune.quantize.loading import make_model
from edgeprune.train.checks import check_recipe
from edgeprune.train.phases import train
from edgeprune.train.policy_alone import PolicyAlone
from edgeprune.train.recipe import Recipe
from tests import models


def recipe_of(folder: Path, policy: str, **changes: Any) -> Recipe:
    """dense, then the policy alone."""
    phases = {name: models.recipe(folder).phases[name].model_dump() for name in ("dense", "sparse")}
    phases["sparse"] |= {"kind": "policy", "distill": 0.0, "teacher": None} | changes
    phases = {"dense": phases["dense"], "alone": phases["sparse"]}
    return models.recipe(folder, policy={"name": policy, "options": models.SMALL.get(policy, {})}, phases=phases)


def test_its_loss_is_the_one_that_a_sparse_phase_adds() -> None:
    torch.manual_seed(0)
    model = make_model(models.card("cts")).train()
    images_B3HW = models.images(2)
    labels_BHW = torch.randint(0, 2, (2, 1, 3)).repeat_interleave(64, 1).repeat_interleave(32, 2)
    labels_BHW[0, :8, :8] = 255
    whole = model(images_B3HW, labels_BHW=labels_BHW, ignore_index=255).masked.loss
    alone = PolicyAlone(model)(images_B3HW, labels_BHW=labels_BHW, ignore_index=255, progress=0.0).masked.loss
    assert alone.item() > 0
    torch.testing.assert_close(alone, whole)


def test_the_policy_learns_and_all_else_stays(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "cts")
    before, after = (load_file(path) for path in train(recipe, tmp_path / "out"))
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert not changed
    learned = {key for key in after if key not in before}
    assert learned and all(key.startswith("policy.") for key in learned)
    torch.manual_seed(0)
    untrained = make_model(models.card("cts", depth=3, stem="conv")).state_dict()
    rested = "policy.purity.first.1.running_mean"
    assert not torch.equal(after[rested], untrained[rested])


@pytest.mark.parametrize(
    ("policy", "changes", "said"),
    [
        (
            "svit",
            {},
            "phase alone: a phase of kind policy trains what looks at the image, and this policy decides from tokens",
        ),
        (
            "cts",
            {"distill": 1.0, "teacher": "dense"},
            "phase alone: distill: no block runs in a phase of kind policy; take it",
        ),
        ("cts", {"freeze": 1}, "phase alone: freeze: no block runs in a phase of kind policy; take it out"),
    ],
)
def test_what_it_can_not_learn_from_is_refused(policy: str, changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, policy, **changes)
    with pytest.raises(InputError) as caught:
        check_recipe(recipe, recipe.phases, 1)
    assert str(caught.value).startswith(said)
