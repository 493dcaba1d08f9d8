"""Who a phase learns from beside the labels: one teacher or several, ViTs or networks of a study (`model.network.NETWORKS`).

Several teach by the arithmetic mean of their class probabilities (Hinton et al. 2015, "Distilling the Knowledge in a Neural
Network", of ensembles), and one of them by its tokens: the first that has those of the pupil's width.

Shapes: B batch, H W pixels, N tokens, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.card import ANY, Card
from edgeprune.model.network import Network, Prediction
from edgeprune.model.spec import ModelSpec
from edgeprune.pruning.selection import select_all
from edgeprune.quantize.loading import find_network, load_network, read_card
from edgeprune.train.checkpoint_file import file_named, names_file
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks.task import Taught


class Teachers:
    """The teachers of a phase; none where it learns from labels alone.

    Args:
        networks: on the phase's device, in evaluation mode.
        of_tokens: the index of the one whose tokens are learnt; None: no tokens are.
    """

    def __init__(self, networks: Sequence[Network], of_tokens: int | None = None):
        self.networks, self.of_tokens = networks, of_tokens

    def teach(self, images_B3HW: Tensor) -> Taught | None:
        """What they say of images (levels 0-255 as float), each with every token, whatever its policy; no gradient."""
        if not self.networks:
            return None
        with torch.no_grad():
            said: list[Prediction] = [network(images_B3HW, select_all) for network in self.networks]
        return Taught([each.raw for each in said], None if self.of_tokens is None else said[self.of_tokens].x_BND)


def load_teachers(run: PhaseRun, device: torch.device) -> Teachers:
    """Those of a phase, on the device.

    Raises:
        InputError: a checkpoint is not there or damaged, or of a network that is not known.
    """
    if not run.phase.distills:
        return Teachers([])
    found = [load_network(run.checkpoint_of(teacher)) for teacher in run.phase.teachers]
    of_tokens = None
    if run.phase.distill_tokens:
        of_tokens = next(index for index, (_, card) in enumerate(found) if not _why_no_tokens(card, run.recipe.model))
    return Teachers([network.to(device) for network, _ in found], of_tokens)


def check_teachers(recipe: Recipe, name: str, phase: Phase) -> None:
    """Refuses teachers that can't teach what the phase asks for, before any phase runs.

    Raises:
        InputError: there is none, one is of an unknown network, none has tokens of the model's width where tokens are learnt,
            or all but one would say nothing.
    """
    if phase.distills and not phase.teachers:
        key = "distill" if phase.distill else "distill_tokens"
        raise InputError(f"phase {name}: {key} needs `teacher`, an earlier phase")
    cards = {teacher: read_card(file_named(teacher), ANY) for teacher in phase.teachers if names_file(teacher)}
    for teacher, card in cards.items():
        if card.network is not None:
            find_network(card.network, f"checkpoint {teacher}")
    if not phase.distill_tokens:
        return
    # an earlier phase has the pupil's own width
    why_not = {each: _why_no_tokens(cards[each], recipe.model) if each in cards else None for each in phase.teachers}
    able = [teacher for teacher, why in why_not.items() if why is None]
    if not able:
        raise InputError(
            f"phase {name}: {', '.join(f'{teacher}: {why}' for teacher, why in why_not.items())}; set distill_tokens: 0, or "
            f"name a teacher of model.size {recipe.model.size}, alone or in a list"
        )
    if not phase.distill and len(phase.teachers) > 1:
        raise InputError(
            f"phase {name}: with distill: 0 only the tokens of {able[0]} would be learnt, and the other teachers say nothing; "
            f"set distill: 1.0, or teacher: {able[0]}"
        )


def _why_no_tokens(card: Card, pupil: ModelSpec) -> str | None:
    """Why a pupil can't learn from a teacher's tokens, which must be as many and as wide as its own; None where it can."""
    if card.network is not None:
        return f"{card.network} has no tokens"
    if card.model.size != pupil.size:
        return f"tokens of a {card.model.size} model can't be learnt by a {pupil.size} one"
    if card.model.patch != pupil.patch:
        return f"tokens of {card.model.patch} pixels can't be learnt by a model of patches of {pupil.patch}"
    return None
