"""A peer's training: the product's trainer, phases and recipes, with another network in the middle. So the budget, the
windows, augmentation, losses, averaged weights, the teacher and what a stopped run goes on from are those of a ViT."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgeprune.base.errors import InputError, choose
from edgeprune.base.reading import parse
from edgeprune.lab.peers import PEERS
from edgeprune.lab.peers.efficientnet_lite import find_weights_of
from edgeprune.lab.peers.peer import Peer
from edgeprune.model.card import Card
from edgeprune.model.checkpoint import load_tensors
from edgeprune.model.network import Network
from edgeprune.model.spec import ModelSpec
from edgeprune.model.weight_files import find_weights, read_safetensors
from edgeprune.quantize.loading import load_head, read_card
from edgeprune.train.checkpoint_file import names_file
from edgeprune.train.phases import train
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.trainer import Trainer

logger = logging.getLogger(__name__)

# keys of a recipe that speak of blocks and tokens, which a peer has not
OF_VITS = ("freeze", "auxiliary", "distill_tokens", "drop_path", "layer_decay")
OF_ANY_NETWORK = {"task", "patch", "height", "width", "classes", "preprocess"}  # keys of `model:`


@dataclass(frozen=True)
class ForTask:
    """What of a recipe means something to peers of a task.

    Attributes:
        keys: of `model:`.
        any_teacher: whether a checkpoint may teach them; else an earlier phase alone, with whose queries they begin.
        our_head: whether theirs is edgeprune's.
    """

    keys: set[str]
    any_teacher: bool
    our_head: bool


FOR_TASKS = {
    "semantic": ForTask(OF_ANY_NETWORK, any_teacher=True, our_head=False),
    # `HeadedPeer`: what is said of the head, whose tokens are of 16 pixels whatever a ViT's patches are
    "instance": ForTask(
        OF_ANY_NETWORK - {"patch"} | {"queries", "mask_extent", "convolutions"},
        any_teacher=False,
        our_head=True,
    ),
}


def for_task(recipe: Recipe) -> ForTask:
    """Raises InputError for a task that no peer is for."""
    return choose(FOR_TASKS, recipe.model.task, "task of a peer")


class PeerTrainer(Trainer):
    """The trainer of the peer that the run's `network` names. A first phase begins with what the peer itself brings."""

    def _start(self, resumes: bool) -> tuple[Network, str]:
        torch.manual_seed(self.run.seed_of(-1))
        peer, before = make_peer(self.card), self.run.start
        if before is None:
            begun = peer.begin()
            if (head := self.run.recipe.head) is not None:
                path = find_weights(head, "head")
                logger.info(f"{self.run.name}: {load_head(peer, path, self.card.names)}")
        else:
            path, begun = self.run.checkpoint_of(before), before
            if not path.is_file():
                raise InputError(f"phase {self.run.name} starts from {before}, and {path} is not there; run it first")
            load_tensors(peer, read_safetensors(path), str(path))
        return peer.to(self.backend.device), begun


def train_peer(name: str, recipe: Recipe, out: Path, cache: Path | None = None) -> Path:
    """Trains a peer by a recipe; goes on where it was stopped.

    Args:
        name: a row of PEERS.
        out: see `edgeprune.train.phases.train`.
        cache: where rendered street scenes are kept.

    Returns:
        the checkpoint of the last phase.

    Raises:
        InputError: the recipe asks for what a peer has not; or what `train` refuses.
    """
    check_peer(name, recipe.model)
    check_recipe_of_peer(recipe)
    return train(recipe, out, cache, trainer=PeerTrainer, network=name)[-1]


def check_peer(name: str, model: ModelSpec | None = None) -> None:
    """Refuses what would fail after hours of other training.

    Args:
        model: what it is to be; None: nobody knows yet.

    Raises:
        InputError: no such peer, it is nothing for the model's task or input, or the package of its weights is missing.
    """
    kind = choose(PEERS, name, "peer")
    if model is not None:
        kind.make(model)
    if kind.package is not None:
        find_weights_of(kind.package)


def check_recipe_of_peer(recipe: Recipe) -> None:
    """Refuses keys that would be taken and ignored."""
    for name, phase in recipe.phases.items():
        if phase.kind != "dense":
            raise InputError(
                f"phase {name} is {phase.kind}: a peer has no tokens to prune, and is quantized by its engines"
            )
        said = next((key for key in OF_VITS if getattr(phase, key) != Phase.model_fields[key].default), None)
        if said is not None:
            raise InputError(f"phase {name}: {said}: a peer has no blocks and no tokens; take it out")
    keys = for_task(recipe).keys
    if recipe.head is not None and not for_task(recipe).our_head:
        raise InputError(f"head: a peer of task {recipe.model.task} has a head of its own; take the key out")
    if others := sorted(recipe.model.model_fields_set - keys):
        raise InputError(f"model.{others[0]} is a ViT's; a peer's model has {', '.join(sorted(keys))}: take it out")
    if recipe.weights is not None:
        raise InputError(
            "weights are a ViT's; a peer begins with those of its package, or with nothing: take the key out"
        )
    if recipe.calibration is None:
        raise InputError("a peer is quantized on frames: give `calibration:` in the recipe")


def for_a_peer(recipe: Recipe) -> Recipe:
    """A ViT's recipe without what speaks of blocks and tokens, and without teachers that can't teach a peer of its task."""
    task = for_task(recipe)
    spoken = recipe.model.model_dump(include=task.keys & recipe.model.model_fields_set)
    model = parse(ModelSpec, spoken, f"recipe {recipe.name}, of a peer: model")
    neutral = {key: Phase.model_fields[key].default for key in OF_VITS}
    untaught: dict[str, Any] = {"distill": 0.0, "teacher": None}
    phases = {}
    for name, phase in recipe.phases.items():
        learns = task.any_teacher or not any(map(names_file, phase.teachers))
        phases[name] = phase.model_copy(update=neutral if learns else neutral | untaught)
    without = {"weights": None} if task.our_head else {"weights": None, "head": None}
    return recipe.model_copy(update={"model": model, "phases": phases, **without})


def make_peer(card: Card) -> Peer:
    """An untrained one, as a card describes it."""
    return choose(PEERS, card.network or "", "peer").make(card.model)


def load_peer(path: Path, name: str) -> tuple[Peer, Card]:
    """A trained peer in evaluation mode.

    Raises:
        InputError: the file is of another network, or damaged.
    """
    card = read_card(path, name)
    peer = make_peer(card)
    load_tensors(peer, read_safetensors(path), str(path))
    return peer.eval(), card
