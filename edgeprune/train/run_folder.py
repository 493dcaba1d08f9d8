"""What a run's folder says beside its checkpoints: the recipe as it ran (`recipe.yaml`), the machine and the code
(`environment.json`), what every phase reported (`metrics.csv`) and its curves (`curves.png`).

`metrics.csv` is made anew from the histories, so it holds what a resumed run would have written without the stop.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml

from edgeprune.base.errors import InputError
from edgeprune.base.files import write_atomic
from edgeprune.base.machine import describe_machine
from edgeprune.base.reading import ROOT
from edgeprune.base.table import write_csv, write_json
from edgeprune.evaluate.plot import new_figure, save, style
from edgeprune.evaluate.tasks import METRICS as OF_TASKS
from edgeprune.train.recipe import Recipe
from edgeprune.train.recipe_file import written_to

logger = logging.getLogger(__name__)

RECIPE, ENVIRONMENT, METRICS, CURVES = "recipe.yaml", "environment.json", "metrics.csv", "curves.png"
COLOURS = ("#3b6fb6", "#d1602b", "#4c9a6a", "#8a5fa8", "#b8912c", "#555555")  # of phases, in turn

# of validations, by the names that rows have them under
FIGURES = {metric.figure: metric.called() for metric in OF_TASKS.values()}

Rows = Sequence[Mapping[str, float]]


def describe_run(recipe: Recipe, out: Path, device: str) -> None:
    """Writes the recipe with every default, its paths relative to the folder, and where it runs. A resumed run writes both
    anew.

    Args:
        device: as the backend names itself.
    """
    with write_atomic(out / RECIPE, "the recipe") as partial:
        head = f"# As it ran: every key, every default. What was typed is in {ENVIRONMENT}.\n"
        partial.write_text(head + yaml.safe_dump(written_to(recipe, out), sort_keys=False))
    about = {
        "command": sys.argv,
        "device": device,
        "machine": describe_machine(),
        "git": {"edgeprune": git_state(ROOT, "__init__.py"), "folder": git_state(Path.cwd())},
        "packages": installed_packages(),
    }
    write_json(out / ENVIRONMENT, about)


@cache
def installed_packages() -> dict[str, str]:
    """The version of every package, by name."""
    found = {each.metadata["Name"]: each.version for each in distributions() if each.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def git_state(folder: Path, tracked: str = ".") -> dict[str, Any] | None:
    """`commit` and whether files that git knows are `changed` there; None where that is no repository, or git is missing.

    Args:
        tracked: a file of the folder that the repository must have: a package is installed in somebody else's, too.
    """

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None or not ask("ls-files", tracked):
        return None
    return {"commit": commit, "changed": bool(ask("status", "--porcelain", "--untracked-files=no"))}


def read_histories(recipe: Recipe, out: Path) -> dict[str, Rows]:
    """What each phase that is done has reported, by its name."""
    found: dict[str, Rows] = {}
    for name in recipe.phases:
        path = out / f"{name}.json"
        if path.is_file():
            try:
                found[name] = json.loads(path.read_text())
            except ValueError:
                raise InputError(f"history {path} is damaged; delete it, the checkpoint stays") from None
    return found


def write_metrics(recipe: Recipe, out: Path, name: str, rows: Rows) -> None:
    """Writes `metrics.csv`: the phases that are done, and what phase `name` has reported until now."""
    histories = read_histories(recipe, out) | {name: rows}
    ordered = [{"phase": phase, **row} for phase in recipe.phases for row in histories.get(phase, [])]
    write_csv(out / METRICS, ordered)


def draw_curves(recipe: Recipe, out: Path) -> None:
    """Draws loss and scores of the phases that are done against their steps; says so where matplotlib is missing."""
    histories = {name: rows for name, rows in read_histories(recipe, out).items() if rows}
    if not histories:
        return
    try:
        plot_histories({recipe.name: histories}, out / CURVES)
    except InputError as error:
        logger.warning(f"no {CURVES}: {error}")


def plot_histories(runs: Mapping[str, Mapping[str, Rows]], path: Path) -> None:
    """Loss above, scores below, against the steps of all phases one after the other; a colour for each run, or for each
    phase where there is one run.

    Args:
        runs: the histories of each run by phase.

    Raises:
        InputError: matplotlib is missing, or the path can't be written.
    """
    figure = new_figure(8.0, 5.2)
    above, below = figure.subplots(2, 1, sharex=True)
    colours = iter(COLOURS * (1 + sum(map(len, runs.values())) // len(COLOURS)))
    for run, histories in runs.items():
        begun, colour = 0, next(colours)
        for index, (phase, rows) in enumerate(histories.items()):
            if index and len(runs) == 1:
                colour = next(colours)
            label = phase if len(runs) == 1 else run if not index else None
            steps = [begun + row["step"] for row in rows]
            above.plot(steps, [row["loss"] for row in rows], "-o", ms=2.5, lw=1.2, color=colour, label=label)
            scored = [(begun + row["step"], 100 * row[key]) for row in rows for key in FIGURES if key in row]
            if scored:
                below.plot(*zip(*scored, strict=True), "-o", ms=3.5, lw=1.2, color=colour)
            begun = int(steps[-1])
    above.set(ylabel="loss")
    every = [row for histories in runs.values() for rows in histories.values() for row in rows]
    found = [name for key, name in FIGURES.items() if any(key in row for row in every)]
    below.set(ylabel=f"{' and '.join(found) or 'score'} (%)", xlabel="step")
    for axes in (above, below):
        style(axes)
    above.legend(frameon=False, fontsize=8, ncols=6, loc="lower right", bbox_to_anchor=(1, 1))  # over no point
    save(figure, path)
