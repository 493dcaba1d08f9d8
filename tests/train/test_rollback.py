"""A phase that goes wrong goes back once, with half the rate, and says so."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgeprune.base.errors import RunError
from edgeprune.model.card import read_header
from edgeprune.train import trainer as module
from edgeprune.train.backend import OneProcess
from edgeprune.train.divergence import LIMIT, WINDOW, LossWatch
from edgeprune.train.history import History
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from edgeprune.train.resume import NAME
from edgeprune.train.trainer import Trainer
from tests import models
from tests.models import changed


def trained(recipe: Recipe, out: Path) -> None:
    Trainer(PhaseRun(recipe, "dense", out), OneProcess("cpu", False), [1 / 11] * 11, None).train()


def spoil_once(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The loss of a step is no number, the first time that it is taken."""
    add, left = History.add, [at]

    def spoil(history: History, loss_P: torch.Tensor, keep: torch.Tensor) -> None:
        add(history, loss_P * torch.nan if history.step + 1 in left else loss_P, keep)
        if history.step in left:
            left.remove(history.step)

    monkeypatch.setattr(History, "add", spoil)


@pytest.mark.parametrize(("seconds", "to"), [(0.0, 2), (1e6, 0)])
def test_it_goes_back_to_the_last_state_or_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str], seconds: float, to: int
) -> None:
    recipe = models.recipe(tmp_path, checkpoint_seconds=seconds)
    spoil_once(monkeypatch, 3)
    trained(recipe, tmp_path)
    found = 3 if to else 4  # where nothing is saved, losses are looked at in the last step
    warning = f"dense: the loss is nan at step 3; goes on from step {to} with half the learning rate, this once"
    assert said.count(warning) == 1
    provenance = read_header(tmp_path / "dense.safetensors")[0].provenance
    assert provenance["rollback"] == {"from": found, "to": to, "why": "the loss is nan at step 3", "rate": 0.5}
    rows = json.loads((tmp_path / "dense.json").read_text())
    assert [row["rolled_back_from"] for row in rows if "rolled_back_from" in row] == [found]
    assert rows[-1]["lr"] == pytest.approx(0.5 * module.learning_rate(recipe.phases["dense"], 3, 4))
    half = changed(recipe, "dense", lr=recipe.phases["dense"].lr / 2)
    monkeypatch.undo()
    if not to:  # from the start: what half the rate gives
        trained(half, tmp_path / "half")
        assert same(tmp_path, tmp_path / "half")


def same(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(folder / "dense.safetensors") for folder in (one, other))
    return all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_resumed_after_it_went_back_a_run_takes_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped as soon as it has gone back, and again after the step that follows; every weight is bit for bit the same."""
    recipe = models.recipe(tmp_path, checkpoint_seconds=0.0)
    with monkeypatch.context() as patch:
        spoil_once(patch, 3)
        trained(recipe, tmp_path / "whole")
    write = module.write_state

    for stop_at in (2, 3):

        def write_and_stop(folder: Path, state: module.PhaseState, tensors: dict[str, torch.Tensor]) -> None:
            write(folder, state, tensors)
            if state.rollback and state.step == stop_at:  # noqa: B023
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, "write_state", write_and_stop)
            if stop_at == 2:
                spoil_once(patch, 3)
            with pytest.raises(KeyboardInterrupt):
                trained(recipe, tmp_path / "stopped")
        assert json.loads((tmp_path / "stopped" / "dense" / NAME).read_text())["rollback"]["rate"] == 0.5
    trained(recipe, tmp_path / "stopped")
    assert same(tmp_path / "stopped", tmp_path / "whole")


def test_a_rate_far_too_high_ends_the_phase_the_second_time(tmp_path: Path, said: list[str]) -> None:
    recipe = changed(models.recipe(tmp_path), "dense", lr=1e30, clip=1e30, ema=0.0)
    with pytest.raises(RunError, match=r"dense: the loss is (nan|inf) at step 2; set a lower lr \(now 1e\+30\)"):
        train(recipe, tmp_path / "out", only=["dense"])
    assert sum("goes on from step 0 with half the learning rate" in line for line in said) == 1


# ------------------------------------------------------------------------------------------------ what diverges


def watched(*losses: float) -> LossWatch:
    watch = LossWatch()
    for step, loss in enumerate(losses, start=1):
        watch.add(loss, step)
    return watch


def test_a_loss_far_above_its_past_has_diverged() -> None:
    falling = [2.4 * 0.97**step for step in range(100)]
    watch = watched(*falling)
    assert watch.lowest == watch.running < watch.first
    with pytest.raises(
        FloatingPointError, match=r"the loss has diverged: .* over the last 20 steps at step 107, 0.262"
    ):
        watched(*falling, *[2.4 * 1.3**step for step in range(20)])


def test_what_is_no_divergence() -> None:
    """A single outlier, noise, a loss that rises to no more than it began with, and the first steps, however they go."""
    watched(*[1.0] * 50, 20.0, *[1.0] * 50)
    generator = torch.Generator().manual_seed(0)
    watched(*(0.3 * torch.randn(2000, generator=generator)).exp().tolist())
    watched(*[2.0] * WINDOW, *[1e-4] * 200, *[2.0 * LIMIT * 1e-4] * 200)
    watched(*[1.0] * 5, *[300.0] * (WINDOW - 5), *[2.0] * 100)


def test_a_watch_goes_on_from_its_numbers() -> None:
    watch = watched(*[1.0] * 30, *[0.5] * 30)
    again = LossWatch(**vars(watch))
    again.add(0.5, 61)
    assert again == watched(*[1.0] * 30, *[0.5] * 31)
