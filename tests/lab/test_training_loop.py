"""What is measured of the trainer's loop, on a small model."""

from pathlib import Path

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.base.statistics import Extremes, Ratio
from edgeprune.lab import training_loop
from edgeprune.lab.training_loop import BareLoop, LoopFigures, MeasuredTrainer, lines, measure
from tests import models


def test_both_loops_take_the_same_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From equal random numbers, and at the peak rate, both loops' weights are equal: neither is spared any work."""
    monkeypatch.setattr(training_loop, "ROUNDS", 2)
    monkeypatch.setattr(training_loop, "IN_A_ROUND", 1)
    apart: list[float] = []

    class Compared(MeasuredTrainer):
        def _take_steps(self) -> None:
            self.model.train()
            batch, bare = next(self._batches()), BareLoop(self)
            torch.manual_seed(self.run.seed_of(0))
            bare.step(batch)
            with monkeypatch.context() as changed:
                changed.setattr(self, "_rate", lambda step: self.phase.lr)
                self.step(0, batch)
            pairs = zip(self.model.state_dict().values(), bare.model.state_dict().values(), strict=True)
            apart.extend(float((ours - theirs).abs().max()) for ours, theirs in pairs)
            super()._take_steps()

    monkeypatch.setattr(training_loop, "MeasuredTrainer", Compared)
    figures = measure(models.recipe(tmp_path), "dense")
    assert len(apart) > 20 and max(apart) < 1e-6
    assert figures.bare_s > 0 and 0 <= figures.waiting_s <= figures.reading_s


def test_what_was_measured_is_said() -> None:
    figures = LoopFigures(2.0, 2.04, Ratio(1.02, Extremes(0.99, 1.05)), 2.2, 0.11)
    assert list(lines(figures)) == [
        "bare loop  2.000 s a step",
        "trainer    2.040 s a step on batches read before: +2.0% (-1.0% to +5.0% in 6 rounds)",
        "           2.200 s with its loader, of it 0.110 s waiting for a batch (5.0%)",
    ]


def test_a_phase_that_needs_one_before_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"phase sparse starts from dense, .*--set phases\.sparse\.start=CHECKPOINT"):
        measure(models.recipe(tmp_path), "sparse")
