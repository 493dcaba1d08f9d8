"""Trains what `trained.py` scores and times: a ViT, pruned and dense, and peers. The product's trainer does it, each phase
resumable."""

from collections.abc import Sequence
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import SEMANTIC
from edgeprune.lab.in_torch.bench import check_buckets
from edgeprune.lab.peers.training import check_peer, for_a_peer, train_peer
from edgeprune.lab.report import PhaseOutcome, read_run
from edgeprune.model.checkpoint import shape_of
from edgeprune.pruning.methods import make_policy
from edgeprune.train.checks import needed
from edgeprune.train.phases import train
from edgeprune.train.recipe import SUFFIX, Recipe

SPARSE, DENSE = "sparse", "dense"  # phases, by their names and their kinds
VIT = "vit"  # the folder beside the peers'
# what a peer's rates are times the ViT's: 1e-3 on windows, as recipe `camvid-peer` has it, where pretrained blocks have 2e-4
PEER_RATE = 5.0


def check_alike(recipe: Recipe) -> None:
    """Refuses a recipe whose pruned and dense model would not be trained alike, or that lacks what scoring needs.

    Raises:
        InputError: the task is not semantic; no phase `sparse` or `dense`; another start, teacher or number of frames; no
            calibration or validation; or a policy that has no buckets.
    """
    if recipe.model.task != SEMANTIC:
        raise InputError(
            f"recipe {recipe.name} is of task {recipe.model.task}, and runners here give labels; give one of task {SEMANTIC}, "
            "such as street-hd"
        )
    for name in (SPARSE, DENSE):
        if name not in recipe.phases or recipe.phases[name].kind != name:
            raise InputError(
                f"recipe {recipe.name} has no phase {name!r} of that kind; what is compared is `sparse` with `dense`, as in "
                "recipe street-hd"
            )
    sparse, dense = (recipe.phases[name] for name in (SPARSE, DENSE))
    for what, ours, control in (
        ("start", blocks_from(recipe, SPARSE), blocks_from(recipe, DENSE)),
        ("teacher", *(", ".join(phase.teachers) or None for phase in (sparse, dense))),
        ("frames", sparse.frames, dense.frames),
    ):
        if ours != control:
            raise InputError(
                f"recipe {recipe.name}: {what} of phase sparse is {ours}, of dense {control}; dense gets what sparse gets"
            )
    for key in ("calibration", "validation"):
        if getattr(recipe, key) is None:
            raise InputError(
                f"recipe {recipe.name} has no {key}; buckets are placed on one, networks scored on the other"
            )
    check_buckets(make_policy(recipe.policy_of(sparse), shape_of(recipe.model)), recipe.policy_of(sparse).name)


def blocks_from(recipe: Recipe, name: str) -> str | None:
    """What a phase's blocks begin with: the phase before it, but for those of kind `policy`, which train no block."""
    start = recipe.start_of(name)
    while start is not None and start in recipe.phases and recipe.phases[start].kind == "policy":
        start = recipe.start_of(start)
    return start


def train_networks(recipe: Recipe, peers: Sequence[str], out: Path, cache: Path) -> dict[str, Path]:
    """Trains the phases of the recipe that `sparse` and `dense` need, then each peer by those that lead to `dense`, with the
    same teacher; what is done is not done again.

    Args:
        peers: rows of `lab.peers.PEERS`.
        out: a folder of it is the ViT's, and each peer has one.
        cache: where rendered street scenes are kept.

    Returns:
        checkpoints: `sparse`, `dense`, and of each peer.

    Raises:
        InputError: an unknown peer, or what `train` refuses.
    """
    for peer in peers:
        check_peer(peer)
    wanted = {SPARSE, DENSE}
    while more := set(needed(recipe, wanted)) - wanted:
        wanted |= more
    train(recipe, out / VIT, cache, [name for name in recipe.phases if name in wanted])
    checkpoints = {name: out / VIT / f"{name}{SUFFIX}" for name in (SPARSE, DENSE)}
    for peer in peers:
        checkpoints[peer] = train_peer(peer, recipe_of_peers(recipe, out / VIT), out / peer, cache)
    return checkpoints


def recipe_of_peers(recipe: Recipe, folder: Path) -> Recipe:
    """The phases that lead to `dense`, for networks that begin with what they bring themselves.

    Args:
        folder: of the ViT's checkpoints, where a teacher is found.
    """
    names = [DENSE]
    while (start := recipe.start_of(names[0])) in recipe.phases:
        names.insert(0, str(start))
    phases = {}
    for before, name in zip((None, *names), names, strict=False):
        phase = recipe.phases[name]
        teacher = phase.teacher
        if isinstance(teacher, list):
            teacher = [_found_in(folder, recipe, each) for each in teacher]
        elif teacher is not None:
            teacher = _found_in(folder, recipe, teacher)
        phases[name] = phase.model_copy(update={"start": before, "teacher": teacher, "lr": PEER_RATE * phase.lr})
    return for_a_peer(recipe.model_copy(update={"phases": phases}))


def _found_in(folder: Path, recipe: Recipe, teacher: str) -> str:
    """A teacher as its checkpoint, where it is a phase of the recipe."""
    return f"{folder / teacher}{SUFFIX}" if teacher in recipe.phases else teacher


def outcomes(out: Path, peers: Sequence[str]) -> list[PhaseOutcome]:
    """What each phase of each network came to."""
    return [outcome for name in (VIT, *peers) for outcome in read_run(out / name).outcomes()]
