"""`train`. torch, which takes seconds, is imported when the files that it was given have been read: what is wrong with one is
said before."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from edgeprune.base.errors import InputError
from edgeprune.base.owning import own
from edgeprune.cli.options import argument, cache_option, json_option, option
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.train.finetune import chosen_recipe, default_folder
from edgeprune.train.launcher import index_of_process, one_voice, processes_launched
from edgeprune.train.leave_out import leave_out
from edgeprune.train.recipe import QUANTIZED, SPARSE, Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    recipe: str | None = argument(default=None)
    data: str | None = option(
        "--data", help="Train on this data set: a name, a folder or a YAML file; it replaces the recipe's."
    )
    weights: str | None = option("--weights", help="Begin with these: hub:OWNER/NAME, a file or a folder.")
    out: Path | None = option("--out", help="Folder for checkpoints; default out/train/<recipe's name>.")
    overrides: tuple[str, ...] = option(
        "--set", default=(), metavar="KEY.KEY=VALUE", help="Override a key of the recipe; repeatable."
    )
    phases: tuple[str, ...] = option("--phase", default=(), help="Run this phase alone; repeatable.")
    leave_out: str | None = option(
        "--leave-out", metavar="DATA:GLOB", help="Train without these files, validate on them: camvid:0016E5*."
    )
    dry_run: bool = option(
        "--dry-run", default=False, help="Run a few steps of each phase, keep nothing, and say what it all takes."
    )
    cache: Path | None = cache_option()
    json: bool = json_option()


PLAN_COLUMNS = {
    "phase": ("phase", ""),
    "kind": ("kind", ""),
    "steps": ("steps", ",d"),
    "batch": ("batch", ""),
    "samples": ("samples", ",d"),
    "starts_from": ("starts from", ""),
    "step_s": ("s a step", ".2f"),
    "minutes": ("minutes", ".0f"),
    "peak_mb": ("peak MB", ",.0f"),
    "done": ("done", ""),
}


@verb(
    "train",
    TrainOptions,
    [
        "edgeprune train --data my-frames/ --weights hub:timm/vit_small_patch14_dinov2.lvd142m",
        "edgeprune train street-short --phase sparse --set phases.sparse.lr=2e-4",
    ],
)
def train(options: TrainOptions) -> None:
    """Train a RECIPE, or a ViT on your data: dense, sparse, QAT.

    RECIPE: a name or a YAML file; left out, `finetune` on --data. Resumes where it was stopped.
    """
    with one_voice():
        _train(options)


def _train(options: TrainOptions) -> None:
    from edgeprune.train.named import check_named

    recipe = chosen_recipe(options.recipe, options.data, options.weights, options.overrides)
    if options.leave_out is not None:
        recipe = leave_out(recipe, options.leave_out)
    folder = options.out or default_folder(recipe)
    if check_named(recipe, folder, options.phases):
        import edgeprune.lab.peers  # noqa: F401  # which then can be loaded; torch, which it needs, comes with it
    if options.dry_run:
        if processes_launched() > 1:
            raise InputError("--dry-run is for one process; leave the launcher out: edgeprune train ... --dry-run")
        show_plan(recipe, folder, options)
        return
    if index_of_process() == 0:
        own([folder], [options.recipe], folders=True)
    # torch takes seconds: what was given has been read
    from edgeprune.train.phases import train as run_training

    logger.info(f"{recipe.name}: phases {', '.join(recipe.phases)}; checkpoints in {folder}")
    paths = run_training(recipe, folder, options.cache, list(options.phases) or None)
    if index_of_process():
        return
    if options.json:
        show_json({"recipe": recipe.name, "checkpoints": [str(path) for path in paths]})
    else:
        click.echo("\n".join(f"wrote {path}" for path in paths))
        built = to_build(recipe, paths)
        memory = " --memory" if recipe.phases[built.stem].remember else ""
        click.echo(f"next: edgeprune build --target onnx-cpu{memory} --checkpoint {built}")


def to_build(recipe: Recipe, checkpoints: Sequence[Path]) -> Path:
    """Of a training's checkpoints the last that is in INT8, else the last that is pruned, else the last: a control may come
    after them."""
    for kinds in (QUANTIZED, SPARSE):
        found = [path for path in checkpoints if recipe.phases[path.stem].kind in kinds]
        if found:
            return found[-1]
    return checkpoints[-1]


def show_plan(recipe: Recipe, folder: Path, options: TrainOptions) -> None:
    """Measures and shows what each phase will take."""
    # torch takes seconds: what was given has been read
    from edgeprune.train.dry_run import dry_run

    plans = dry_run(recipe, folder, options.cache, options.phases)
    if options.json:
        show_json({"recipe": recipe.name, "out": str(folder), "phases": plans})
        return
    show_table(plans, PLAN_COLUMNS)
    minutes = sum(plan.minutes or 0 for plan in plans)
    click.echo(f"about {minutes:.0f} minutes in all, validation left out; nothing was kept")
