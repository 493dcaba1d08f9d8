"""A trained model in one safetensors file: weights, and in its header (`model/card.py`) what they belong to. Never a pickle."""

import errno
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.base.files import write_atomic
from edgeprune.model.card import HEADER, Card, look_at_checkpoint
from edgeprune.model.network import Network
from edgeprune.model.policy import Shape
from edgeprune.model.segmenter import WIDTHS
from edgeprune.model.spec import ModelSpec
from edgeprune.model.weights import is_finite

POSITIONS = "pos_embed"


def shape_of(spec: ModelSpec) -> Shape:
    """What a policy must know of a model of this kind."""
    return Shape(WIDTHS[spec.size], spec.depth, spec.grid, spec.classes, spec.extra_tokens)


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
    write_safetensors(path, "checkpoint", stored, {HEADER: card.to_header()})


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


def check_size(card: Card, tensors: dict[str, Tensor], where: str) -> None:
    """Whether the tensors are those of a model of this size, before one is made: a header of a few bytes may ask for one
    that fills the memory.

    Raises:
        InputError: other blocks, another width, or another grid.
    """
    blocks = {key.split(".")[1] for key in tensors if key.startswith("blocks.")}
    if blocks != {str(index) for index in range(card.model.depth)}:
        raise InputError(f"{where} has {len(blocks)} blocks, its header says {card.model.depth}; copy it again")
    rows, columns = card.model.grid
    expected = (1, rows * columns, WIDTHS[card.model.size])
    found = tuple(tensors[POSITIONS].shape) if POSITIONS in tensors else None
    if found != expected:
        raise InputError(f"{where}: {POSITIONS} is {found}, its header means {expected}; copy it again")
    if not tensors[POSITIONS].is_floating_point():
        raise InputError(
            f"{where}: {POSITIONS} is of {tensors[POSITIONS].dtype}, expected floating point; copy it again"
        )


def is_checkpoint(path: Path) -> bool:
    """Whether a safetensors file is an edgeprune checkpoint (and not bare ViT weights)."""
    try:
        look_at_checkpoint(path)
        with safe_open(path, "np") as file:
            return HEADER in (file.metadata() or {})
    except (InputError, SafetensorError, OSError):
        return False  # `read_safetensors` says what is wrong with it


def load_tensors(
    model: Network, tensors: dict[str, Tensor], where: str, partial: bool = False, anew: Sequence[str] = ()
) -> None:
    """Copies `tensors` into `model`.

    Args:
        partial: gates, quantizers and the last layer keep their own start where the file lacks them or has others.
        anew: what else does so: parts of names.

    Raises:
        InputError: a tensor is missing, has another shape or kind of values, has no place in the model, or holds what is no
            number.
    """
    own = model.state_dict()
    unknown = [key for key in tensors if key not in own]
    if unknown and not partial:
        raise InputError(f"{where} has {len(unknown)} tensors that the model has no place for, {unknown[0]} the first")
    # a dense model's weights start a sparse one; a model of other classes starts one with a new last layer
    optional = ("policy.", "_quantizer.", "head.classify.") if partial else ()
    free = [key for key in own if any(part in key for part in (*optional, *anew))]
    missing = [key for key in own if key not in tensors and key not in free]
    if missing:
        raise InputError(f"{where} lacks {len(missing)} tensors of the model, {missing[0]} the first")
    for key, value in own.items():
        if key not in free and tensors[key].shape != value.shape:
            raise InputError(f"{where}: {key} is {tuple(tensors[key].shape)}, the model expects {tuple(value.shape)}")
    taken = {key: tensors[key] for key, value in own.items() if key in tensors and tensors[key].shape == value.shape}
    for key, value in taken.items():
        if value.is_floating_point() != own[key].is_floating_point() or value.is_complex():
            raise InputError(f"{where}: {key} is of {value.dtype}, the model expects {own[key].dtype}; copy it again")
        if not is_finite(value):
            raise InputError(
                f"{where}: {key} holds values that are no finite numbers; copy the file again, or train the phase again"
            )
    with torch.no_grad():
        model.load_state_dict(taken, strict=False)
