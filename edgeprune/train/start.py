"""What a phase starts with: the card of the model that it makes, and the weights it begins from."""

import logging
from pathlib import Path

import torch

from edgeprune.base.errors import InputError
from edgeprune.bundle import PRECISIONS
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.selection import LEAST_FRAMES
from edgeprune.model.auxiliary import AuxiliaryHeads
from edgeprune.model.blocks import Block
from edgeprune.model.checkpoint import Card, is_checkpoint, shape_of
from edgeprune.model.narrow import check_narrower, narrow
from edgeprune.model.segmenter import WIDTHS, Segmenter
from edgeprune.model.weight_files import find_weights, read_config, read_normalise, read_safetensors
from edgeprune.model.weights import load_timm
from edgeprune.pruning.methods import chosen_options, settle
from edgeprune.quantize.calibrate import calibration_frames, ptq_ranges
from edgeprune.quantize.linear import load_quantizers, set_quantized
from edgeprune.quantize.loading import OF_CLASSES, load, load_head, load_start, make_model, read_card
from edgeprune.quantize.ranges import apply_ranges
from edgeprune.train.checkpoint_file import names_file
from edgeprune.train.frozen import freeze
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import QUANTIZED

logger = logging.getLogger(__name__)

ENOUGH_TOKENS = 30_000  # to narrow a model on: there are ten times as many as a linear has inputs


def begun_from(run: PhaseRun) -> Path | None:
    """The file that the phase begins with, wherever it is named; None where it begins with nothing."""
    if run.start is not None:
        return run.checkpoint_of(run.start)
    return None if run.recipe.weights is None else find_weights(run.recipe.weights)


def normalise_of(run: PhaseRun) -> tuple[str, str | None]:
    """The levels that the phase's model takes: what the recipe writes, else those of what it begins with.

    Returns:
        the row of `NORMALISE`, and one line where the recipe writes another than the weights were trained with.
    """
    spec, path = run.recipe.model, begun_from(run)
    if path is None:
        return spec.normalise, None
    found: str | None
    if run.start is not None or is_checkpoint(path):
        found = read_card(path, run.network).model.normalise if path.is_file() else None
    else:
        found = read_normalise(path)
    if "normalise" not in spec.model_fields_set:
        return found or spec.normalise, None
    if found in (None, spec.normalise):
        return spec.normalise, None
    source = run.start or run.recipe.weights
    return spec.normalise, f"model.normalise is {spec.normalise}, and {source} was trained with {found}"


def card_of(run: PhaseRun, data_set: DataSet) -> Card:
    """The header of the checkpoint that the phase will write, but for its provenance."""
    recipe, (normalise, _) = run.recipe, normalise_of(run)
    return Card(
        name=recipe.name,
        model=recipe.model.model_copy(update={"normalise": normalise}),
        policy=settle(recipe.policy_of(run.phase), shape_of(recipe.model)),
        quantized=run.phase.kind in QUANTIZED,
        names=data_set.names,
        palette=data_set.palette,
        network=run.network,
    )


def start_model(run: PhaseRun, card: Card, device: torch.device, resumes: bool) -> tuple[Segmenter, str]:
    """The model on the device, with the weights that the phase begins with, and where these are from. What the phase freezes
    is frozen; auxiliary heads begin anew in every phase.

    Args:
        resumes: a saved state will replace the weights, so ranges of INT8 need not be measured.
    """
    if card.quantized:
        logger.info(
            f"{run.name}: loads NNCF's quantizers; the first time on a machine they are compiled, about a minute"
        )
        load_quantizers(device)
    chosen = chosen_options(run.recipe.policy_of(run.phase), shape_of(card.model))
    torch.manual_seed(run.seed_of(-1))
    model = make_model(card)
    for key, value in chosen.items():
        logger.info(f"{run.name}: policy {card.policy.name}: {key} {value}, chosen for this model")
    started_from, note = load_weights(run, model, card.names, resumes)
    for line in (note, normalise_of(run)[1]):
        if line:
            logger.info(f"{run.name}: {line}")
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        block.drop_path = run.phase.drop_path * index / max(1, len(model.blocks) - 1)
    if (heads := run.phase.auxiliary) is not None:
        model.auxiliary = AuxiliaryHeads(heads.blocks, WIDTHS[card.model.size], card.model.classes)
    freeze(model, run.phase.freeze)
    if card.quantized and not resumes:
        _start_ranges(run, model, begun_from(run))
    return model.to(device), started_from


def load_weights(run: PhaseRun, model: Segmenter, names: list[str], replaced: bool = False) -> tuple[str, str | None]:
    """Gives the model the weights that the phase begins with.

    Args:
        names: of the model's classes.
        replaced: others will take their place, so a wider checkpoint, which takes minutes to narrow, is only looked at.

    Returns:
        where they are from, and what of the model begins anew, or of the file is left over.
    """
    begun, note = _load_weights(run, model, names, replaced)
    if run.start is not None or run.recipe.head is None:
        return begun, note
    of_head = load_head(model, find_weights(run.recipe.head, "head"), names)
    return begun, f"{note}; {of_head}" if note else of_head


def _load_weights(run: PhaseRun, model: Segmenter, names: list[str], replaced: bool) -> tuple[str, str | None]:
    """See `load_weights`; the head as what the phase begins with has it."""
    before, weights, path = run.start, run.recipe.weights, begun_from(run)
    if path is None:
        return "random", None
    if before is not None and not path.is_file():
        raise InputError(
            f"phase {run.name} starts from {before}, whose checkpoint {path} is not there; run that phase first"
        )
    if (wide := find_wider(run, path, model)) is not None:
        note = None if replaced else narrow_from(run, wide, model, path, names)
    elif before is not None or is_checkpoint(path):
        anew = load_start(model, path, names)
        note = f"{path} {', and '.join(anew)}" if anew else None
    else:
        loaded = load_timm(model, read_safetensors(path), read_config(path))
        note = (
            f"{weights} gives {len(loaded.taken)} tensors, {_few(loaded.left_over)} left over, "
            f"{_few(loaded.missing)} missing"
        )
    return before or weights or "", note


def find_wider(run: PhaseRun, path: Path, model: Segmenter) -> Segmenter | None:
    """The model of a checkpoint that is wider than the one that begins with it, at that one's input; None for all else.

    Raises:
        InputError: it can't be narrowed, or the recipe names no frames to narrow it on.
    """
    if not is_checkpoint(path) or WIDTHS[read_card(path).model.size] <= WIDTHS[model.spec.size]:
        return None
    if run.recipe.calibration is None:
        raise InputError(f"phase {run.name}: {path} is narrowed on frames; give `calibration:` in the recipe")
    wide, _ = load(path, (model.spec.height, model.spec.width))
    check_narrower(wide, model)
    return wide


def narrow_from(run: PhaseRun, wide: Segmenter, model: Segmenter, path: Path, names: list[str]) -> str:
    """Narrows a model on the recipe's calibration frames; returns a line that says how well it went. Of other classes than
    `names` the last layer begins anew."""
    assert run.recipe.calibration is not None
    calibration, of_others = run.recipe.calibration, read_card(path).names != names
    enough = max(LEAST_FRAMES, ENOUGH_TOKENS // (model.grid[0] * model.grid[1]))
    few = calibration.model_copy(update={"frames": min(calibration.frames, enough)})
    frames, images_F3HW = calibration_frames(few, Preprocess.of(model.spec))
    for each in (wide, model):  # in float: no range of the narrower one is known yet
        set_quantized(each, ())
    kept = narrow(wide, model, images_F3HW, OF_CLASSES if of_others else ())
    set_quantized(model, PRECISIONS["int8"].quantized)
    return (
        f"{path} is a {wide.spec.size} model, narrowed to {model.spec.size} on {len(frames)} frames: {kept:.0%} of what its "
        "head read there is left" + ("; it has other classes, so its last layer begins anew" if of_others else "")
    )


def _start_ranges(run: PhaseRun, model: Segmenter, path: Path | None) -> None:
    """Measures the ranges of quantizers where the weights that the phase begins with, in `path`, came without, or were
    narrowed from."""
    calibration = run.recipe.calibration
    if path is not None and is_checkpoint(path):
        card = read_card(path)
        if card.quantized and card.model.size == model.spec.size:
            return
    if calibration is None:
        raise InputError(f"phase {run.name}: {path} has no ranges of INT8; give `calibration:` in the recipe")
    apply_ranges(model, ptq_ranges(model, calibration, run.phase.freeze if calibration.equalise else None))


def check_start(run: PhaseRun) -> None:
    """Refuses a file to begin with that the model can't take, before an earlier phase has run for hours."""
    before = run.start
    if (before or run.recipe.weights or run.recipe.head) and (before is None or names_file(before)):
        card = card_of(run, load_data_set(run.phase.data[0].data))
        load_weights(run, make_model(card), card.names, replaced=True)


def _few(keys: list[str]) -> str:
    """`"none"`, `"2 (a, b)"`, `"9 (a, b, c ...)"`."""
    return f"{len(keys)} ({', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''})" if keys else "none"
