"""What the trainer costs beside the network: a phase's steps against a bare PyTorch loop, and how long they wait for frames.

    python -m edgeprune.lab.training_loop street-short --phase dense

The bare loop has the same model, batches, augmentation, loss and AdamW. The trainer adds the averaged weights, the schedule,
the loss's watch, gathering and reports. Both take turns, on batches read before; then the trainer reads its own.
"""

import copy
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

import edgeprune.lab.peers  # noqa: F401  # a teacher may be one
from edgeprune.base.device import check_environment
from edgeprune.base.ending import end_on_signals
from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.machine import describe_machine
from edgeprune.base.statistics import Ratio, ratio_by_round
from edgeprune.train.batches import AHEAD
from edgeprune.train.finetune import chosen_recipe
from edgeprune.train.frozen import begin_training
from edgeprune.train.optimiser import make_optimiser
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from edgeprune.train.trainer import Batch, Trainer

TYPED = "python -m edgeprune.lab.training_loop"
IN_A_ROUND = 4
ROUNDS = 6


class Measured(Exception):
    """Ends a phase that has been measured: no checkpoint is wanted of it."""


@dataclass(frozen=True)
class LoopFigures:
    """Seconds of one step each.

    Attributes:
        bare_s: of the bare loop.
        trainer_s: of the trainer, on batches read before.
        overhead: the trainer's time over the bare loop's, round by round.
        reading_s: of the trainer, with its loader beside it.
        waiting_s: of that, for a batch.
    """

    bare_s: float
    trainer_s: float
    overhead: Ratio
    reading_s: float
    waiting_s: float


class MeasuredTrainer(Trainer):
    """A trainer that takes turns with a bare loop in place of its phase."""

    figures: LoopFigures

    def _take_steps(self) -> None:
        begin_training(self.model, self.phase.freeze)
        batches = list(islice(self._batches(), IN_A_ROUND))
        bare = BareLoop(self)
        bare_s: list[list[float]] = []
        trainer_s: list[list[float]] = []
        for number in range(ROUNDS + 1):
            turns = [(bare_s, bare.step), (trainer_s, self._full_step)]
            for times_s, step in turns if number % 2 else reversed(turns):
                times_s.append([self._timed(step, batch) for batch in batches])
        bare_s, trainer_s = bare_s[1:], trainer_s[1:]  # the first round takes memory and chooses kernels
        reading_s, waiting_s = self._with_its_loader()
        self.figures = LoopFigures(
            bare_s=median([*chain(*bare_s)]),
            trainer_s=median([*chain(*trainer_s)]),
            overhead=ratio_by_round(trainer_s, bare_s),
            reading_s=reading_s,
            waiting_s=waiting_s,
        )
        raise Measured

    def _full_step(self, batch: Batch) -> None:
        self.step(self.history.step, batch)
        self._after_step()

    def _with_its_loader(self) -> tuple[float, float]:
        """Medians of a step's seconds and of the wait for its batch, when what was read ahead at first is used up."""
        first = AHEAD + self.recipe.workers
        steps_s: list[float] = []
        waits_s: list[float] = []
        batches = self._batches()
        for _ in range(first + ROUNDS * IN_A_ROUND):
            began = time.perf_counter()
            batch = next(batches)
            waits_s.append(time.perf_counter() - began)
            steps_s.append(waits_s[-1] + self._timed(self._full_step, batch))
        return median(steps_s[first:]), median(waits_s[first:])

    def _timed(self, step: Any, batch: Batch) -> float:
        began = time.perf_counter()
        step(batch)
        if self.backend.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


class BareLoop:
    """A loop as one writes it for this model alone, on a copy of the trainer's."""

    def __init__(self, trainer: Trainer):
        self.trainer, self.model = trainer, copy.deepcopy(trainer.model)
        begin_training(self.model, trainer.phase.freeze)
        self.optimiser = make_optimiser(self.model, trainer.phase)

    def step(self, batch: Batch) -> None:
        """Augmentation, forward, backward, clipping, AdamW."""
        task, backend, phase = self.trainer.task, self.trainer.backend, self.trainer.phase
        task.before_step(self.model, 0.0)
        self.optimiser.zero_grad(set_to_none=True)
        for part in batch:
            images_B3HW, targets = task.augment(*part)
            with backend.autocast():
                prediction = self.model(images_B3HW, labels_BHW=task.labels(targets), ignore_index=task.ignore_index)
            loss = task.loss(prediction, targets).sum() + prediction.masked.loss.float()
            with backend.autocast():
                taught = self.trainer.teachers.teach(images_B3HW)
            if taught is not None:
                loss = loss + task.distance(prediction, taught)
            (loss / len(batch)).backward()
        if phase.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), phase.clip)
        self.optimiser.step()


def measure(recipe: Recipe, phase: str, cache: Path | None = None) -> LoopFigures:
    """Measures a phase of a recipe that needs no phase before it, in a folder that is thrown away.

    Raises:
        InputError: no such phase, or what `train` refuses.
    """
    start = recipe.start_of(phase) if phase in recipe.phases else None
    if start in recipe.phases:
        raise InputError(
            f"phase {phase} starts from {start}, which is not trained here; give its checkpoint: --set "
            f"phases.{phase}.start=CHECKPOINT, and phases.{phase}.teacher where it has one"
        )
    recipe = recipe.model_copy(deep=True)
    recipe.validation, recipe.checkpoint_seconds = None, 1e9
    if phase in recipe.phases:
        recipe.phases[phase].frames = recipe.phases[phase].batch * 10_000
    made: list[MeasuredTrainer] = []

    def measured(*given: Any) -> MeasuredTrainer:
        made.append(MeasuredTrainer(*given))
        return made[-1]

    with tempfile.TemporaryDirectory(prefix="edgeprune-loop-") as folder, suppress(Measured):
        train(recipe, Path(folder), cache, [phase], trainer=measured)
    return made[0].figures


def lines(figures: LoopFigures) -> Iterator[str]:
    """What was measured, in words."""
    least, most = figures.overhead.extremes
    yield f"bare loop  {figures.bare_s:.3f} s a step"
    yield (
        f"trainer    {figures.trainer_s:.3f} s a step on batches read before: {figures.overhead.median - 1:+.1%} "
        f"({least - 1:+.1%} to {most - 1:+.1%} in {ROUNDS} rounds)"
    )
    yield (
        f"           {figures.reading_s:.3f} s with its loader, of it {figures.waiting_s:.3f} s waiting for a batch "
        f"({figures.waiting_s / figures.reading_s:.1%})"
    )


@click.command(help=__doc__)
@click.argument("recipe")
@click.option("--phase", required=True, help="One that starts from weights, or from nothing.")
@click.option("--data", help="In place of the recipe's.")
@click.option("--weights", help="In place of the recipe's.")
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a key; repeatable.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where rendered scenes are kept.")
def main(
    recipe: str,
    phase: str,
    data: str | None,
    weights: str | None,
    overrides: tuple[str, ...],
    cache: Path | None,
) -> None:
    check_environment()
    figures = measure(chosen_recipe(recipe, data, weights, overrides), phase, cache)
    click.echo("\n".join((describe_machine()["cpu"] or "a CPU without a name", *lines(figures))))


if __name__ == "__main__":
    end_on_signals()
    sys.exit(run_click(main, "training_loop", TYPED))
