"""What a phase begins with: the card of the model that it makes, the weights it starts from, and its teacher."""

from collections.abc import Callable
from pathlib import Path

import torch

from edgeprune.base.errors import InputError
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.model.checkpoint import Card, is_checkpoint, shape_of
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.weights import find_weights, load_timm, read_config, read_safetensors
from edgeprune.pruning.methods import settle
from edgeprune.quantize.loading import load, load_start, make_model
from edgeprune.train.made_of import begins_with, checkpoint_of
from edgeprune.train.named import SUFFIX
from edgeprune.train.recipe import QUANTIZED, Phase, Recipe

Say = Callable[[str], None]


def card_of(recipe: Recipe, phase: Phase, data_set: DataSet) -> Card:
    return Card(
        name=recipe.name,
        model=recipe.model,
        policy=settle(recipe.policy_of(phase), shape_of(recipe.model)),
        quantized=phase.kind in QUANTIZED,
        names=data_set.names,
        palette=data_set.palette,
    )


def load_weights(recipe: Recipe, name: str, model: Segmenter, names: list[str], out: Path, say: Say) -> str:
    """Gives the model the weights that the phase begins with; returns where they are from."""
    before = begins_with(recipe, name)
    if before is None and recipe.weights is None:
        return "random"
    path = find_weights(recipe.weights or "") if before is None else checkpoint_of(before, out)
    if before is not None and not path.is_file():
        raise InputError(
            f"phase {name} starts from {before}, whose checkpoint {path} is not there; run that phase first"
        )
    if before is not None or is_checkpoint(path):
        if load_start(model, path, names):
            say(f"{name}: {path} has other classes, so its last layer begins anew")
    else:
        loaded = load_timm(model, read_safetensors(path), read_config(path))
        say(
            f"{name}: {recipe.weights} gives {len(loaded.taken)} tensors, {_few(loaded.left_over)} left over, "
            f"{_few(loaded.missing)} missing"
        )
    return before or recipe.weights or ""


def check_start(recipe: Recipe, name: str, phase: Phase, out: Path) -> None:
    """Refuses a file to begin with that the model can't take, before an earlier phase has run for hours."""
    before = begins_with(recipe, name)
    if (before or recipe.weights) and (before is None or before.endswith(SUFFIX)):
        card = card_of(recipe, phase, load_data_set(phase.data[0].data))
        load_weights(recipe, name, make_model(card), card.names, out, lambda _: None)


def load_teacher(phase: Phase, out: Path, device: torch.device) -> Segmenter | None:
    """The model that the phase learns from beside the labels; it keeps every token, whatever its policy."""
    if not (phase.distill or phase.distill_tokens):
        return None
    teacher, _ = load(checkpoint_of(phase.teacher or "", out))
    return teacher.to(device)


def has_ranges(path: Path) -> bool:
    return path.is_file() and any("input_quantizer" in key for key in read_safetensors(path))


def _few(keys: list[str]) -> str:
    """`"none"`, `"2 (a, b)"`, `"9 (a, b, c ...)"`."""
    return f"{len(keys)} ({', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''})" if keys else "none"
