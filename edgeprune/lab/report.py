"""Runs side by side: what each phase came to, and which keys of their recipes differ.

A run is the folder that `train` writes; its `recipe.yaml` and histories are read, not its checkpoints.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeprune.base.beside import change
from edgeprune.base.errors import InputError, choose
from edgeprune.base.reading import parse, read_yaml
from edgeprune.base.table import INLINE, flatten
from edgeprune.evaluate.tasks import METRICS, Metric
from edgeprune.train.recipe import Recipe
from edgeprune.train.recipe_file import each_path
from edgeprune.train.run_folder import RECIPE, Rows, read_histories

ABOUT = ("name", "summary")  # keys that change nothing of what is trained


@dataclass(frozen=True)
class PhaseOutcome:
    """What one phase of one run came to.

    Attributes:
        run: its folder.
        loss: of the last row, a mean over the steps since the row before.
        scores: the figure of the run's metric by its name, of the last validation, on the recipe's frames, and with `best_`
            before it the highest of the validations; None without any.
        keep: share of the tokens kept in the last step, mean over decisions; None for a dense phase.
        minutes: spent on the phase.
    """

    run: str
    phase: str
    steps: int
    loss: float
    scores: Mapping[str, float | None] = field(metadata=INLINE)
    keep: float | None
    minutes: float


@dataclass(frozen=True)
class Run:
    """A folder that `train` wrote."""

    folder: Path
    recipe: Recipe
    histories: Mapping[str, Rows]

    @property
    def metric(self) -> type[Metric]:
        """What its validations are scored by. Raises InputError for an unknown task."""
        return choose(METRICS, self.recipe.model.task, "task")

    def outcomes(self) -> list[PhaseOutcome]:
        """Of the phases that are done, in their order."""
        figure = self.metric.figure
        return [_outcome(str(self.folder), phase, rows, figure) for phase, rows in self.histories.items() if rows]


def read_run(folder: Path) -> Run:
    """Reads what `train` wrote.

    Raises:
        InputError: the folder holds no run, or none that has finished a phase.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise InputError(f"{folder} holds no run: it has no {RECIPE}; name a folder that `edgeprune train` wrote")
    content = read_yaml(path, "recipe")
    each_path(content, folder, _as_here)
    recipe = parse(Recipe, content, str(path))
    histories = read_histories(recipe, folder)
    if not any(histories.values()):
        raise InputError(f"{folder}: no phase is done yet; type `edgeprune train {path}` to go on")
    return Run(folder, recipe, histories)


def _as_here(node: dict[Any, Any], key: str, folder: Path) -> None:
    """Paths relative to the run's folder as ones relative to the working folder, as those of an earlier version are."""

    def here(value: Any) -> Any:
        is_there = isinstance(value, str) and value.startswith("..") and os.path.exists(folder / value)
        return os.path.relpath(os.path.realpath(folder / value)) if is_there else value

    change(node, key, here)


def differing_keys(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The keys in which the recipes differ, dotted, with the value of each run; a key that a recipe lacks is None."""
    said = [flatten(_as_mappings(run.recipe.model_dump(mode="json", exclude=set(ABOUT)))) for run in runs]
    keys = dict.fromkeys(key for each in said for key in each)
    values = {key: [each.get(key) for each in said] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def _as_mappings(content: Any) -> Any:
    """Lists of mappings by their index, so that one key of one item is told."""
    if isinstance(content, dict):
        return {key: _as_mappings(value) for key, value in content.items()}
    if isinstance(content, list) and any(isinstance(item, dict) for item in content):
        return {str(index): _as_mappings(item) for index, item in enumerate(content)}
    return content


def _outcome(run: str, phase: str, rows: Rows, figure: str) -> PhaseOutcome:
    last = rows[-1]
    found = [row[figure] for row in rows if figure in row]
    return PhaseOutcome(
        run=run,
        phase=phase,
        steps=int(last["step"]),
        loss=last["loss"],
        scores={figure: found[-1] if found else None, f"best_{figure}": max(found, default=None)},
        keep=last.get("keep"),
        minutes=last["seconds"] / 60,
    )
