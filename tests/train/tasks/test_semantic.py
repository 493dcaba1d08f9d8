"""The semantic task: which losses its settings switch on, and its score."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeprune.model.segmenter import Prediction
from edgeprune.train import losses
from edgeprune.train.frozen import begin_training
from edgeprune.train.recipe import Validation
from edgeprune.train.tasks import make_task
from edgeprune.train.tasks.task import Task, Taught
from edgeprune.train.validation import open_validation, score
from tests import models

HISTOGRAM = [0.5, 0.25, *[0.03125] * 8, 0.0]


def task(folder: Path, validation: dict[str, Any] | None = None, **changes: Any) -> Task:
    recipe = models.changed(models.recipe(folder, validation=validation), "dense", **changes)
    return make_task(recipe, recipe.phases["dense"], models.STREET, HISTOGRAM, torch.device("cpu"))


def prediction(seed: int) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    logits_BKHW = torch.randn(2, 11, 8, 12, generator=generator)
    x_BND = torch.randn(2, 6, 4, generator=generator)
    return Prediction(logits_BKHW, x_BND, masked=None)  # type: ignore[arg-type]


def test_the_loss_is_the_sum_of_what_the_phase_asks_for(tmp_path: Path) -> None:
    labels_BHW = torch.randint(0, 12, (2, 16, 24), generator=torch.Generator().manual_seed(0))
    logits_BKHW = prediction(0).raw
    plain = task(tmp_path).loss(prediction(0), labels_BHW)
    assert plain == losses.cross_entropy(logits_BKHW, labels_BHW, 11, None, 0.0)
    weights_K = losses.class_weights(HISTOGRAM, 0.5)
    weighted = losses.cross_entropy(logits_BKHW, labels_BHW, 11, weights_K, 0.1)
    found = task(tmp_path, class_balance=0.5, label_smoothing=0.1).loss(prediction(0), labels_BHW)
    assert found == weighted != plain
    jaccard = losses.jaccard_distance(logits_BKHW, labels_BHW, 11)
    dice = losses.dice_distance(logits_BKHW, labels_BHW, 11)
    found = task(tmp_path, jaccard=0.5, dice=0.25).loss(prediction(0), labels_BHW)
    torch.testing.assert_close(found, plain + 0.5 * jaccard + 0.25 * dice)
    hard = losses.hard_cross_entropy(logits_BKHW, labels_BHW, 11, None, 0.0, 0.05, 0.1)
    assert task(tmp_path, ohem={"threshold": 0.05}).loss(prediction(0), labels_BHW) == hard != plain


def test_an_auxiliary_head_learns_the_labels_at_the_main_ones_size(tmp_path: Path) -> None:
    """Each of its logits counts for the 2x2 of the main head that it lies over."""
    labels_BHW = torch.randint(0, 11, (2, 16, 24), generator=torch.Generator().manual_seed(0))
    coarse_BKHW = torch.zeros(2, 11, 4, 6)
    coarse_BKHW[:, 3] = 2.0
    answer = prediction(0)
    answer.auxiliary = [coarse_BKHW, coarse_BKHW]
    plain = task(tmp_path).loss(prediction(0), labels_BHW)
    of_3 = (labels_BHW[:, 1::2, 1::2] == 3).double().mean().item()
    each = math.log(10 + math.exp(2)) - 2 * of_3
    found = task(tmp_path, auxiliary={"blocks": [1, 2], "weight": 0.3}).loss(answer, labels_BHW)
    assert found.item() == pytest.approx(plain.item() + 2 * 0.3 * each, rel=1e-5)


@pytest.mark.parametrize(("distill", "tokens"), [(2.0, 0.0), (0.0, 3.0), (2.0, 3.0)])
def test_the_distance_is_that_of_classes_and_of_tokens(tmp_path: Path, distill: float, tokens: float) -> None:
    ours, taught = prediction(0), prediction(1)
    if not distill:  # a teacher of other classes
        taught.raw = taught.raw[:, :7]
    expected = torch.zeros(())
    if distill:
        expected = distill * losses.distance_to_teacher(ours.raw, taught.raw)
    expected = expected + tokens * losses.distance_to_tokens(ours.x_BND, taught.x_BND)
    found = task(tmp_path, distill=distill, distill_tokens=tokens, teacher="dense").distance(
        ours, Taught([taught.raw], taught.x_BND)
    )
    torch.testing.assert_close(found, expected)


def test_the_score_is_that_of_the_recipes_validation(tmp_path: Path) -> None:
    data = models.write_street(tmp_path)
    model = models.model(models.card("dense", depth=1))
    begin_training(model, 1)
    training = [name for name, module in model.named_modules() if module.training]
    assert "head" in training and "blocks.0" not in training
    found = task(tmp_path, validation={"data": data, "frames": 2}).score(model)
    assert found == {"miou": score(model, *open_validation(Validation(data=data)), 2, None).miou}
    assert [name for name, module in model.named_modules() if module.training] == training
    assert task(tmp_path).score(model) == {}
