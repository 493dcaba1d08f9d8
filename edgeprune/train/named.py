"""What a recipe names, looked at before torch is imported, which takes seconds: data sets, and the headers of checkpoints."""

from collections.abc import Sequence
from os.path import isdir
from pathlib import Path

from edgeprune.base.beside import PLACES
from edgeprune.base.errors import InputError, nearest
from edgeprune.data.datasets import load_data_set
from edgeprune.model.card import look_at_checkpoint, read_header
from edgeprune.train.recipe import SUFFIX, Recipe


def check_named(recipe: Recipe, out: Path, only: Sequence[str] = ()) -> None:
    """Refuses a phase, a data set or a checkpoint that is named and isn't there, or is none. A phase whose checkpoint is in
    `out` is done, and needs nothing any more.

    Args:
        only: phases that were asked for.

    Raises:
        InputError: names it.
    """
    known = list(recipe.phases)
    for name in only:
        if name not in known:
            raise InputError(f"the recipe has no phase {name!r}; it has {', '.join(known)}{nearest(name, known)}")
    due = {name: recipe.phases[name] for name in only or known if not (out / f"{name}{SUFFIX}").is_file()}
    sources = [mix.data for phase in due.values() for mix in phase.data]
    sources += [spec.data for spec in (recipe.validation, recipe.calibration) if due and spec is not None]
    for data in dict.fromkeys(sources):
        load_data_set(data)
    for checkpoint in dict.fromkeys(value for phase in due.values() for value in (phase.start, phase.teacher)):
        if checkpoint is not None and checkpoint.endswith(SUFFIX):
            read_header(Path(checkpoint))
    weights = recipe.weights
    if weights and not weights.startswith(PLACES) and not isdir(weights) and known[0] in due:
        look_at_checkpoint(Path(weights))
