"""A trained model in one safetensors file: weights, and in its header what they belong to. Never a pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgeprune.config import ModelSpec, PolicySpec, Strict, parse
from edgeprune.errors import InputError
from edgeprune.files import write_atomic
from edgeprune.model.segmenter import WIDTHS, Segmenter
from edgeprune.model.stem import PATCH
from edgeprune.model.weights import read_safetensors
from edgeprune.policies import make_policy
from edgeprune.quantize import quantize_linears

HEADER = "edgeprune"


class Card(Strict):
    """The header of a checkpoint: what the weights are, and where they come from."""

    name: str
    model: ModelSpec
    policy: PolicySpec
    quantized: bool = False
    names: list[str]
    palette: list[tuple[int, int, int]]
    provenance: dict[str, Any] = Field(default_factory=dict)


def make_model(card: Card) -> Segmenter:
    """An untrained model as a card describes it."""
    spec = card.model
    tokens = (spec.height // PATCH) * (spec.width // PATCH)
    model = Segmenter(spec, make_policy(card.policy, WIDTHS[spec.size], spec.depth, tokens))
    if card.quantized:
        quantize_linears(model)
    return model


def save(path: Path, card: Card, tensors: dict[str, Tensor], half: bool = False) -> None:
    """Writes a checkpoint under a temporary name and renames it. `half` stores large tensors in FP16, for the zoo."""
    stored = {
        key: (value.half() if half and value.is_floating_point() and value.ndim > 1 else value).contiguous()
        for key, value in tensors.items()
    }
    with write_atomic(path, "checkpoint") as partial:
        save_file(stored, partial, metadata={HEADER: card.model_dump_json()})


def read_card(path: Path) -> Card:
    """The header alone.

    Raises:
        InputError: no checkpoint, a damaged one, or a safetensors file of something else.
    """
    if not path.is_file():
        read_safetensors(path)  # raises, and lists what is there
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint {path} is not a whole safetensors file ({error}); copy it again") from None
    if HEADER not in metadata:
        raise InputError(
            f"{path} is no edgeprune checkpoint; for bare ViT weights name it as `weights:` in a recipe and train"
        )
    try:
        content = json.loads(metadata[HEADER])
    except json.JSONDecodeError:
        raise InputError(f"checkpoint {path}: its header is not JSON; copy it again") from None
    return parse(Card, content, f"checkpoint {path}")


def load(path: Path) -> tuple[Segmenter, Card]:
    """The model of a checkpoint, in FP32 and in evaluation mode.

    Raises:
        InputError: see `read_card`; or the tensors are not those of the model that the header describes.
    """
    card = read_card(path)
    model = make_model(card)
    load_tensors(model, read_safetensors(path), str(path))
    return model.eval(), card


def load_tensors(model: Segmenter, tensors: dict[str, Tensor], where: str, partial: bool = False) -> None:
    """Copies `tensors` into `model`.

    Args:
        partial: the file may lack gates and quantizers (a dense model's weights for a sparse one) or have more.

    Raises:
        InputError: a tensor is missing or has another shape.
    """
    own = model.state_dict()
    optional = ("policy.", "_quantizer.")
    missing = [key for key in own if key not in tensors and not (partial and any(part in key for part in optional))]
    if missing:
        raise InputError(f"{where} lacks {len(missing)} tensors of the model, {missing[0]} the first")
    for key, value in own.items():
        if key in tensors and tensors[key].shape != value.shape:
            if partial and any(part in key for part in optional):
                continue
            raise InputError(f"{where}: {key} is {tuple(tensors[key].shape)}, the model expects {tuple(value.shape)}")
    taken = {key: tensors[key] for key, value in own.items() if key in tensors and tensors[key].shape == value.shape}
    with torch.no_grad():
        model.load_state_dict(taken, strict=False)
