"""Loads timm-format ViT weights (DeiT, AugReg, MAE, DINOv2) by their key names, from a safetensors file or the hub."""

import re
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgeprune.errors import InputError
from edgeprune.model.segmenter import Segmenter, resize_positions
from edgeprune.model.stem import PatchStem

HUB = "hub:"


@dataclass
class Loaded:
    """What a weight file gave: keys taken, keys of the file left over, keys of the model it does not have."""

    taken: list[str]
    left_over: list[str]
    missing: list[str]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: it is missing or damaged.
    """
    if not path.is_file():
        beside = sorted(file.name for file in path.parent.glob("*.safetensors")) if path.parent.is_dir() else []
        there = f"; that folder has {', '.join(beside[:5])}" if beside else ""
        raise InputError(f"checkpoint {path} is not there{there}; give a .safetensors file or run `edgeprune train`")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint {path} is not a whole safetensors file ({error}); copy it again") from None


def find_weights(source: str) -> Path:
    """A local path, or `hub:OWNER/NAME[/FILE]` fetched with huggingface-hub (its cache applies).

    Raises:
        InputError: the hub can't be reached or does not have it.
    """
    if not source.startswith(HUB):
        return Path(source)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    owner, _, rest = source[len(HUB) :].partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name:
        raise InputError(f"weights {source!r}: expected hub:OWNER/NAME or hub:OWNER/NAME/FILE")
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file or "model.safetensors"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"weights {source!r} can't be fetched ({type(error).__name__}); download the .safetensors file and give its path"
        ) from None


def load_timm(model: Segmenter, tensors: dict[str, Tensor]) -> Loaded:
    """Copies what a plain ViT of the same width has into `model`.

    Class and register tokens have no place in a dense model and are left over with their positions; position
    embeddings are resized from their square grid; a convolutional stem keeps its own start; depth beyond the
    model's is left over.

    Raises:
        InputError: the file is no ViT, or of another width.
    """
    tensors = {re.sub(r"^(module|model|encoder|backbone)\.", "", key): value for key, value in tensors.items()}
    own = dict(model.named_parameters())
    width = model.pos_embed.shape[-1]
    found = tensors.get("blocks.0.attn.qkv.weight")
    if found is None:
        raise InputError(
            f"no timm-format ViT: expected keys such as 'blocks.0.attn.qkv.weight', found {', '.join(list(tensors)[:3])}"
        )
    if found.shape[1] != width:
        raise InputError(f"the weights are {found.shape[1]} wide, the model {width}: choose model.size to match")
    renamed = {"patch_embed.proj.weight": "stem.proj.weight", "patch_embed.proj.bias": "stem.proj.bias"}
    taken, left_over = [], []
    for key, value in tensors.items():
        target = renamed.get(key, key)
        if target.startswith("stem.") and not isinstance(model.stem, PatchStem):
            left_over.append(key)
            continue
        if key == "pos_embed":
            extra = value.shape[1] - isqrt(value.shape[1]) ** 2  # class, distillation and register tokens come first
            side = isqrt(value.shape[1] - extra)
            value = resize_positions(value[:, extra:], (side, side), model.grid)
        if target not in own or target.startswith("head."):
            left_over.append(key)
            continue
        if own[target].shape != value.shape:
            raise InputError(f"weights: {key} is {tuple(value.shape)}, the model expects {tuple(own[target].shape)}")
        with torch.no_grad():
            own[target].copy_(value)
        taken.append(target)
    missing = [key for key in own if key.startswith(("blocks.", "norm.", "pos_embed")) and key not in taken]
    return Loaded(taken, left_over, missing)
