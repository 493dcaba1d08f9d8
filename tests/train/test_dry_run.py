"""`train --dry-run`: every phase for a few steps, in earnest; nothing kept."""

from pathlib import Path

import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.train.dry_run import STEPS, dry_run
from edgeprune.train.phases import train
from tests import models
from tests.models import changed


def test_every_phase_is_measured_and_nothing_is_kept(tmp_path: Path, said: list[str]) -> None:
    recipe = changed(models.recipe(tmp_path), "dense", frames=10_000)
    before = sorted(tmp_path.rglob("*"))
    plans = dry_run(recipe, tmp_path / "out", None)
    assert sorted(tmp_path.rglob("*")) == before
    assert [plan.phase for plan in plans] == list(recipe.phases)
    for plan, phase in zip(plans, recipe.phases.values(), strict=True):
        assert plan.step_s and plan.step_s > 0 and plan.peak_mb and plan.samples and not plan.done
        assert plan.minutes == pytest.approx(plan.step_s * phase.steps / 60)
    assert [plan.starts_from for plan in plans] == ["random weights", "dense", "sparse"]
    assert any(f"step {STEPS}/{STEPS}" in line for line in said) and recipe.phases["dense"].steps == 5_000


def test_what_is_done_is_not_run_again(tmp_path: Path) -> None:
    recipe = models.recipe(tmp_path)
    train(recipe, tmp_path / "out", only=["dense"])
    plans = {plan.phase: plan for plan in dry_run(recipe, tmp_path / "out", None, ["dense"])}
    assert plans["dense"].done and plans["dense"].step_s is None


def test_a_fault_of_the_last_phase_is_found(tmp_path: Path) -> None:
    recipe = changed(models.recipe(tmp_path), "qat", lr=1e30)
    with pytest.raises(RunError, match="not finite|is nan|inf"):
        dry_run(recipe, tmp_path / "out", None)
    with pytest.raises(InputError, match="phase sparse: start is 'nothing'"):
        dry_run(changed(models.recipe(tmp_path), "sparse", start="nothing"), tmp_path / "out", None)
