"""The study: both networks trained on equal images with equally many steps, and scored by the same code."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.base.files import sha256
from edgeprune.base.progress import headed
from edgeprune.base.table import write_json
from edgeprune.bundle.target import SEMANTIC
from edgeprune.data.datasets import load_data_set
from edgeprune.lab.peers.training import check_peer, for_a_peer, load_peer, train_peer
from edgeprune.quantize.loading import load
from edgeprune.train.batches import open_part
from edgeprune.train.phases import train
from edgeprune.train.recipe import Mix, Recipe, Validation
from edgeprune.train.validation import open_validation, score

ALL = "all"


@dataclass(frozen=True)
class Contestant:
    """What is trained: a ViT, or a row of PEERS; `name` says which weights it begins with. The recipe has one phase."""

    name: str
    recipe: Recipe
    peer: str | None = None

    def with_images(self, images: int, seed: int) -> Recipe:
        """The recipe of one run."""
        changed = self.recipe.model_copy(update={"seed": seed}, deep=True)
        (phase,) = changed.phases.values()
        phase.data[0].images = images
        return changed


@dataclass(frozen=True)
class RunScore:
    """One run, as its `score.json` has it.

    Attributes:
        made_of: the checkpoint's hash, and what was scored: of others it is scored anew.
        miou, boundary_f, small_things_miou: 0 to 1, at the model's input size.
    """

    made_of: dict[str, Any]
    miou: float
    boundary_f: float | None
    small_things_miou: float | None


Found = Mapping[tuple[str, int, int], RunScore]  # by network, images, seed


def with_budget(recipe: Recipe, weights: str, steps: int, batch: int) -> Recipe:
    """A ViT's recipe cut to its first phase: so many steps of so large batches from these weights, and scored once, at the end.

    Raises:
        InputError: the task is not semantic; that phase is not dense, or draws from several sources.
    """
    if recipe.model.task != SEMANTIC:
        raise InputError(
            f"recipe {recipe.name} is of task {recipe.model.task}, and this study scores mIoU of labels; give one of task "
            f"{SEMANTIC}"
        )
    name, first = next(iter(recipe.phases.items()))
    if first.kind != "dense" or len(first.data) != 1:
        raise InputError(
            f"recipe {recipe.name}: phase {name} is {first.kind} and draws from {len(first.data)} data sets; this study takes "
            "a recipe whose first phase is dense, on one"
        )
    assert recipe.validation is not None  # see `reported`
    times = recipe.validation.times if recipe.validation.chooses else 0
    phase = first.model_copy(update={"frames": steps * batch, "batch": batch})
    validation = recipe.validation.model_copy(update={"times": times})
    return recipe.model_copy(update={"phases": {name: phase}, "validation": validation, "weights": weights}, deep=True)


def contestants(vit: Recipe, peer: str, own: Recipe) -> list[Contestant]:
    """The ViT, and a peer that sees what it sees.

    Args:
        vit: from `with_budget`; data, input, windows, budget and validation of both are its own.
        own: the peer's recipe, of which the first phase says the rest.

    Raises:
        InputError: an unknown peer, or no package of its weights.
    """
    check_peer(peer)
    assert vit.weights is not None  # see `with_budget`
    ((name, phase),) = vit.phases.items()
    same = {key: getattr(phase, key) for key in ("data", "frames", "batch", "crop_height", "crop_width")}
    changes = {
        "model": for_a_peer(vit).model,
        "phases": {name: next(iter(own.phases.values())).model_copy(update=same)},
        "validation": vit.validation,
        "calibration": vit.calibration,
    }
    beside = own.model_copy(update=changes, deep=True)
    return [Contestant(Path(vit.weights).stem, vit), Contestant(peer, beside, peer)]


def count_images(recipe: Recipe, wanted: Sequence[str]) -> list[int]:
    """The numbers of images that were asked for, rising, each once; `all` is how many there are.

    Raises:
        InputError: no number, or more than there are.
    """
    (phase,) = recipe.phases.values()
    (mix,) = phase.data
    data_set = load_data_set(mix.data)
    found = set()
    for each in wanted:
        if each != ALL and not (each.isdecimal() and int(each)):
            raise InputError(f"--images {each!r}: expected a number from 1 on, or {ALL}")
        asked = Mix.model_validate(mix.model_dump() | {"images": None if each == ALL else int(each)})
        found.add(len(open_part(asked, data_set, recipe.held_out)))
    return sorted(found)


def run(
    two: Sequence[Contestant], images: Sequence[int], seeds: Sequence[int], scored: Validation, out: Path
) -> Iterator[tuple[Found, list[int]]]:
    """Trains and scores both at each number of images, one seed after the other.

    Args:
        scored: the frames that both are scored on.

    Yields:
        after each seed, all that was found so far, and the seeds that are done.

    Raises:
        InputError, RunError: what training and scoring raise.
    """
    found: dict[tuple[str, int, int], RunScore] = {}
    for done, seed in enumerate(seeds, start=1):
        for count in images:
            for each in two:
                folder = out / f"{count}-images" / each.name / f"seed{seed}"
                with headed(f"{each.name}, {count} images, seed {seed}"):
                    found[each.name, count, seed] = run_one(each, count, seed, scored, folder)
        yield found, list(seeds[:done])


def run_one(contestant: Contestant, images: int, seed: int, scored: Validation, folder: Path) -> RunScore:
    """Trains and scores one, or reads its `score.json`."""
    recipe, peer = contestant.with_images(images, seed), contestant.peer
    checkpoint = train(recipe, folder)[-1] if peer is None else train_peer(peer, recipe, folder)
    made_of = {"checkpoint": sha256(checkpoint), "validation": scored.model_dump(mode="json")}
    done = folder / "score.json"
    if done.is_file() and (known := RunScore(**json.loads(done.read_text()))).made_of == made_of:
        return known
    model = load(checkpoint)[0] if peer is None else load_peer(checkpoint, peer)[0]
    data_set, samples = open_validation(scored)
    found = score(model, data_set, samples, scored.frames, None, boundaries=True)
    result = RunScore(made_of, found.miou, found.boundary_f, found.small_things_miou)
    write_json(done, result)
    return result
