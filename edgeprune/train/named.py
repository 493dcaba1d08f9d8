"""What a recipe names, looked at before torch is imported, which takes seconds: data sets, and the headers of checkpoints."""

from collections.abc import Mapping, Sequence
from os.path import isdir
from pathlib import Path

from edgeprune.base.beside import PLACES
from edgeprune.base.errors import InputError, nearest
from edgeprune.data.datasets import load_data_set
from edgeprune.model.card import ANY, look_at_checkpoint, read_header
from edgeprune.train.checkpoint_file import find_named, names_file
from edgeprune.train.recipe import SUFFIX, Phase, Recipe


def check_named(recipe: Recipe, out: Path, only: Sequence[str] = ()) -> set[str]:
    """Refuses a phase, a data set or a checkpoint that is named and isn't there, or is none. A phase whose checkpoint is in
    `out` is done, and needs nothing any more.

    Args:
        only: phases that were asked for.

    Returns:
        what the teachers of the phases that will run are of, where that is no ViT, as `Card.network` names it.

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
    for checkpoint in dict.fromkeys(phase.start for phase in due.values()):
        if checkpoint is not None and names_file(checkpoint):
            read_header(find_named(checkpoint, "start"))
    networks = networks_of_teachers(due)
    for weights in (recipe.weights, recipe.head):
        if weights and not weights.startswith(PLACES) and not isdir(weights) and known[0] in due:
            look_at_checkpoint(Path(weights))
    return networks


def networks_of_teachers(phases: Mapping[str, Phase]) -> set[str]:
    """What the teachers that are files are of, where that is no ViT, as `Card.network` names it.

    Raises:
        InputError: one is not there, or is no checkpoint.
    """
    named = dict.fromkeys(teacher for phase in phases.values() for teacher in phase.teachers)
    cards = [read_header(find_named(teacher, "teacher"), ANY)[0] for teacher in named if names_file(teacher)]
    return {card.network for card in cards if card.network is not None}
