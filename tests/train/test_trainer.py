"""A step reads nothing back from the device; what is not finite is found when something is reported or saved."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeprune.base.errors import RunError
from edgeprune.model.checkpoint import save
from edgeprune.pruning.methods import POLICIES
from edgeprune.quantize.loading import make_model
from edgeprune.train import trainer as module
from edgeprune.train.backend import OneProcess
from edgeprune.train.frames_before import Seen
from edgeprune.train.history import History
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from edgeprune.train.resume import NAME
from edgeprune.train.trainer import Trainer, is_due
from tests import models
from tests.models import changed

EVERYTHING = {
    "distill_tokens": 1.0,
    "class_balance": 0.5,
    "label_smoothing": 0.1,
    "jaccard": 0.5,
    "dice": 0.5,
    "ohem": {},
    "auxiliary": {"blocks": [2]},
    "freeze": 1,
    "drop_path": 0.2,
}


def made(recipe: Recipe, folder: Path, name: str = "dense") -> Trainer:
    return Trainer(PhaseRun(recipe, name, folder), OneProcess("cpu", False), [1 / 11] * 11, None)


# ------------------------------------------------------------------------------------------------ no value is read


class Unreadable(OneProcess):
    """A device whose tensors have no values: to look at one, by `item`, `float`, `bool`, `tolist` or a mask, raises."""

    def __init__(self) -> None:
        self.device, self.bf16 = torch.device("meta"), False


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Unreadable:
    """Steps of tests on a device without values; neither the fused optimiser nor autocast knows such a device."""
    monkeypatch.setattr(
        module, "make_optimiser", lambda model, phase: torch.optim.SGD([{"params": model.parameters(), "scale": 1.0}])
    )
    monkeypatch.setattr(torch, "autocast", lambda *args, **settings: nullcontext())
    return Unreadable()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    shape = (4, models.HEIGHT, models.WIDTH)
    images_B3HW = torch.zeros(4, 3, *shape[1:], dtype=torch.uint8, device="meta")
    return images_B3HW, torch.zeros(shape, dtype=torch.uint8, device="meta")


def test_a_step_reads_no_value_from_the_device(tmp_path: Path, unreadable: Unreadable) -> None:
    card = models.card("dense", depth=3, stem="conv")
    save(tmp_path / "dense.safetensors", card, make_model(card).state_dict())
    recipe = changed(models.recipe(tmp_path), "sparse", **EVERYTHING)
    trainer = Trainer(PhaseRun(recipe, "sparse", tmp_path), unreadable, [1 / 11] * 11, None)
    assert len(trainer.teachers.networks) == 1
    trainer.model.train()
    for step in range(2):
        trainer.step(step, [batch()])
    assert trainer.history.step == 2
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        trainer.history.read()


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_reads_a_value_from_the_device(unreadable: Unreadable, policy: str) -> None:
    """Forward and backward of its training form, with its own loss."""
    model = make_model(models.card(policy)).to(unreadable.device).train()
    images_B3HW, labels_BHW = batch()
    prediction = model(images_B3HW.float(), labels_BHW=labels_BHW.long(), progress=0.5)
    (prediction.raw.sum() + prediction.masked.loss).backward()


def test_a_part_counts_for_as_much_as_there_is_to_learn(tmp_path: Path) -> None:
    """So that a mean over labelled pixels is one over those of the whole batch."""
    trainer = made(changed(models.recipe(tmp_path), "dense", accumulate=2), tmp_path)
    images_B3HW, labels_BHW = torch.zeros(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.long)
    mostly_ignored_BHW = labels_BHW.clone()
    mostly_ignored_BHW[:, 16:] = 11
    some, mostly_ignored, none = (
        Seen(images_B3HW, each_BHW, None) for each_BHW in (labels_BHW, mostly_ignored_BHW, labels_BHW + 11)
    )
    torch.testing.assert_close(trainer._shares([some, mostly_ignored]), torch.tensor([1.6, 0.4]))
    assert trainer._shares([mostly_ignored]).tolist() == [1.0]
    assert trainer._shares([none]).tolist() == [0.0]
    trainer.step(0, next(trainer._batches()))
    assert trainer.history.step == 1 and trainer.phase.batch == 2


READS: list[Callable[[torch.Tensor], Any]] = [float, bool, lambda loss: loss.tolist(), lambda loss: loss[loss > 0]]


@pytest.mark.parametrize("read", READS)
def test_a_step_that_reads_a_value_would_be_noticed(
    tmp_path: Path, unreadable: Unreadable, monkeypatch: pytest.MonkeyPatch, read: Callable[[torch.Tensor], Any]
) -> None:
    trainer = Trainer(PhaseRun(models.recipe(tmp_path), "dense", tmp_path), unreadable, [1 / 11] * 11, None)
    monkeypatch.setattr(trainer.backend, "backward", lambda loss: read(loss.detach()))
    with pytest.raises((RuntimeError, NotImplementedError), match="meta|Meta"):
        trainer.step(0, [batch()])


# ------------------------------------------------------------------------------------------------ what is not finite


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_a_loss_that_is_no_number_stops_the_phase(tmp_path: Path, seconds: float) -> None:
    """At the next state that would be saved, or at the end; the step is named either way."""
    recipe = changed(models.recipe(tmp_path, checkpoint_seconds=seconds), "dense", lr=1e30, clip=1e30, ema=0.0)
    with pytest.raises(
        RunError,
        match=r"dense: (the loss is (nan|inf) at step 2|.* not finite after step 1); set a lower lr \(now 1e\+30\)",
    ):
        train(recipe, tmp_path / "out", only=["dense"])
    assert not (tmp_path / "out" / "dense.safetensors").exists()


@pytest.mark.parametrize("at", [3, 4])
def test_a_state_that_is_not_finite_is_not_saved_over_one_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """A gradient overflows where no loss does: in the middle of a phase, and in its last step."""
    recipe = models.recipe(tmp_path, checkpoint_seconds=0.0)
    add = History.add

    def spoil(history: History, loss_P: torch.Tensor, keep_PG: torch.Tensor) -> None:
        add(history, loss_P, keep_PG)
        if history.step == at:
            with torch.no_grad():
                next(trainer.model.parameters()).fill_(torch.inf)
                trainer.average.update(trainer.model, at)

    trainer = made(recipe, tmp_path)
    monkeypatch.setattr(History, "add", spoil)
    with pytest.raises(RunError, match=f"dense: .*pos_embed is not finite after step {at}; set a lower lr"):
        trainer.train()
    assert f'"step": {at - 1}' in (tmp_path / "dense" / NAME).read_text()
    assert not (tmp_path / "dense.safetensors").exists()
    monkeypatch.undo()
    made(recipe, tmp_path).train()  # what was saved is whole
    assert (tmp_path / "dense.safetensors").exists()


def test_validation_falls_evenly_and_on_the_last_step() -> None:
    assert [step for step in range(1, 11) if is_due(step, 10, 4)] == [3, 5, 8, 10]
    assert [step for step in range(1, 4) if is_due(step, 3, 10)] == [1, 2, 3]
    assert not any(is_due(step, 10, 0) for step in range(1, 11))
