"""A trained model in one safetensors file: weights, and in its header what they belong to. Never a pickle."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.base.files import write_atomic
from edgeprune.base.inputs import look_at
from edgeprune.base.reading import Strict, parse
from edgeprune.base.strict_json import parse_json
from edgeprune.bundle.manifest import Byte, Name
from edgeprune.model.policy import Shape
from edgeprune.model.segmenter import WIDTHS, Segmenter, resize_positions
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.model.stem import PATCH
from edgeprune.model.weights import read_safetensors

HEADER = "edgeprune"
POSITIONS = "pos_embed"


class Card(Strict):
    """The header of a checkpoint: what the weights are, and where they come from."""

    name: Name
    model: ModelSpec
    policy: PolicySpec
    quantized: bool = False
    names: list[Name]
    palette: list[tuple[Byte, Byte, Byte]]
    provenance: dict[str, Any] = Field(default_factory=dict)


def shape_of(spec: ModelSpec) -> Shape:
    """What a policy must know of a model of this kind."""
    return Shape(WIDTHS[spec.size], spec.depth, (spec.height // PATCH, spec.width // PATCH), spec.classes)


def save(path: Path, card: Card, tensors: dict[str, Tensor], half: bool = False) -> None:
    """Writes a checkpoint under a temporary name and renames it.

    Args:
        half: stores weights in FP16, for the zoo. Quantization scales stay as they are: INT8 codes hang on their last bit.
    """
    stored = {
        key: value.half()
        if half and value.is_floating_point() and value.ndim > 1 and "_quantizer." not in key
        else value
        for key, value in tensors.items()
    }
    write_safetensors(path, "checkpoint", stored, {HEADER: card.model_dump_json()})


def write_safetensors(path: Path, what: str, tensors: dict[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Writes tensors, each in storage of its own, under a temporary name and renames the file.

    Raises:
        InputError: the folder can't be written to.
        RunError: the disk is full.
    """
    own = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
    with write_atomic(path, what) as partial:
        partial.touch()
        mode = partial.stat().st_mode
        try:
            save_file(own, partial, metadata=header)
            partial.chmod(mode)  # safetensors gives it to the user alone; others may read what the umask lets them
        except SafetensorError as error:  # the system's error is in its text alone
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else errno.EIO, str(error)) from error


def read_card(path: Path) -> Card:
    """The header alone.

    Raises:
        InputError: no checkpoint, a damaged one, or a safetensors file of something else.
    """
    if not os.path.lexists(path):
        read_safetensors(path)  # raises, and lists what is there
    look_at(path, "checkpoint")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint {path} is not a whole safetensors file ({error}); copy it again") from None
    if HEADER not in metadata:
        raise InputError(
            f"{path} is no edgeprune checkpoint; for bare ViT weights name it as `weights:` in a recipe and train"
        )
    where = f"checkpoint {path}"
    card = parse(Card, parse_json(metadata[HEADER], f"{where}: its header"), where)
    for what, found in (("class names", len(card.names)), ("colours", len(card.palette))):
        if found != card.model.classes:
            raise InputError(f"{where}: its header has {found} {what} for {card.model.classes} classes; copy it again")
    return card


def check_size(card: Card, tensors: dict[str, Tensor], where: str) -> None:
    """Whether the tensors are those of a model of this size, before one is made: a header of a few bytes may ask for one
    that fills the memory.

    Raises:
        InputError: other blocks, another width, or another grid.
    """
    blocks = {key.split(".")[1] for key in tensors if key.startswith("blocks.")}
    if blocks != {str(index) for index in range(card.model.depth)}:
        raise InputError(f"{where} has {len(blocks)} blocks, its header says {card.model.depth}; copy it again")
    patches = (card.model.height // PATCH) * (card.model.width // PATCH)
    expected = (1, patches, WIDTHS[card.model.size])
    found = tuple(tensors[POSITIONS].shape) if POSITIONS in tensors else None
    if found != expected:
        raise InputError(f"{where}: {POSITIONS} is {found}, its header means {expected}; copy it again")


def is_checkpoint(path: Path) -> bool:
    """Whether a safetensors file is an edgeprune checkpoint (and not bare ViT weights)."""
    try:
        with safe_open(path, "pt") as file:
            return HEADER in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False  # `read_safetensors` says what is wrong with it


def load_start(model: Segmenter, path: Path, names: list[str]) -> bool:
    """Copies a checkpoint's weights into a model that is trained on from there: one of other gates, fewer blocks, other
    classes or another input size, to which positions are resized.

    Args:
        names: of the model's classes. Where the checkpoint's are others, as many or not, last layers begin anew: its third
            class is not ours.

    Returns:
        whether they do.

    Raises:
        InputError: see `load_tensors` and `read_card`.
    """
    card, tensors = read_card(path), read_safetensors(path)
    check_size(card, tensors, f"checkpoint {path}")
    if card.names != names:
        tensors = {key: value for key, value in tensors.items() if ".classify." not in key}
    own = (card.model.height // PATCH, card.model.width // PATCH)
    if own != model.grid:
        tensors[POSITIONS] = resize_positions(tensors[POSITIONS], own, model.grid)
    load_tensors(model, tensors, str(path), partial=True)
    return card.names != names


def load_tensors(model: Segmenter, tensors: dict[str, Tensor], where: str, partial: bool = False) -> None:
    """Copies `tensors` into `model`.

    Args:
        partial: gates, quantizers and the last layer keep their own start where the file lacks them or has others.

    Raises:
        InputError: a tensor is missing, has another shape or no place in the model.
    """
    own = model.state_dict()
    unknown = [key for key in tensors if key not in own]
    if unknown and not partial:
        raise InputError(f"{where} has {len(unknown)} tensors that the model has no place for, {unknown[0]} the first")
    # a dense model's weights start a sparse one; a model of other classes starts one with a new last layer
    optional = ("policy.", "_quantizer.", "head.classify.") if partial else ()
    free = [key for key in own if any(part in key for part in optional)]
    missing = [key for key in own if key not in tensors and key not in free]
    if missing:
        raise InputError(f"{where} lacks {len(missing)} tensors of the model, {missing[0]} the first")
    for key, value in own.items():
        if key not in free and tensors[key].shape != value.shape:
            raise InputError(f"{where}: {key} is {tuple(tensors[key].shape)}, the model expects {tuple(value.shape)}")
    taken = {key: tensors[key] for key, value in own.items() if key in tensors and tensors[key].shape == value.shape}
    with torch.no_grad():
        model.load_state_dict(taken, strict=False)
