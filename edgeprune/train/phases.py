"""Runs the phases of a recipe in order, after everything that they need has been looked at."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edgeprune.base.files import make_folder
from edgeprune.train.backend import make_backend
from edgeprune.train.checks import check_done, check_recipe, needed
from edgeprune.train.data_checks import check_data
from edgeprune.train.named import check_named
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.run_folder import describe_run, draw_curves
from edgeprune.train.samples import draw_samples
from edgeprune.train.start import check_start
from edgeprune.train.trainer import Trainer

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    out: Path,
    cache: Path | None = None,
    only: list[str] | None = None,
    trainer: Callable[..., Trainer] = Trainer,
    network: str | None = None,
) -> list[Path]:
    """Runs the phases in order; a phase whose checkpoint is there already is taken as done. Of several processes that a
    launcher started each runs this.

    Args:
        out: gets `<phase>.safetensors`, `<phase>.json` (history), `calib-<phase>.yaml` and `samples-<phase>.png` of each
            phase, and what `run_folder` writes.
        cache: where rendered street scenes are kept.
        only: run these phases alone.
        trainer: makes that of each phase.
        network: what this trainer trains, where that is no ViT; see `Card.network`.

    Returns:
        the checkpoint of each phase.
    """
    check_named(recipe, out, only or [])
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    backend = make_backend(recipe.device, recipe.bf16)
    runs = [PhaseRun(recipe, name, out, network) for name in recipe.phases]
    chosen = [run for run in runs if not only or run.name in only]
    due = {run.name: run.phase for run in chosen if not run.is_done}
    check_recipe(recipe, due, backend.processes, network)
    _check_all_done(runs, chosen, due)
    histograms = backend.from_main(lambda: check_data(recipe, due, cache))
    make_folder(out, "checkpoints")
    for run in chosen:
        if run.name in due:
            check_start(run)
    if due and backend.index == 0:
        describe_run(recipe, out, str(backend))
    anew = False  # whether a phase before has just been trained
    for run in chosen:
        if run.name in due:
            _train_phase(trainer(run, backend, histograms[run.name], cache))
            anew = True
            continue
        if anew:  # what it is made of may have changed
            check_done(run)
        logger.info(f"{run.name}: done before, {run.checkpoint}")
    if anew and backend.index == 0:
        draw_curves(recipe, out)
    return [run.checkpoint for run in chosen]


def _train_phase(trainer: Trainer) -> None:
    trainer.train()
    if trainer.backend.index == 0:
        draw_samples(trainer.run, trainer.model, trainer.card)


def _check_all_done(runs: Sequence[PhaseRun], chosen: Sequence[PhaseRun], due: dict[str, Phase]) -> None:
    """Looks at the checkpoints that are there and were asked for, or that a phase that is due needs."""
    for run in runs:
        if not run.is_done or not (run in chosen or run.name in needed(run.recipe, due)):
            continue
        if note := check_done(run):
            logger.warning(note)
