"""Loads timm-format ViT weights (DeiT, AugReg, MAE, DINOv2) by their key names, from a safetensors file or the hub."""

import re
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgeprune.config import ROOT
from edgeprune.errors import InputError
from edgeprune.model.segmenter import Segmenter, resize_positions
from edgeprune.model.stem import PATCH, PatchStem

HUB = "hub:"
PREFIXES = re.compile(r"^(?:(?:module|model|encoder|backbone)\.)+")  # what training code wraps around a ViT
ZOO = "zoo:"


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
    """A local path, `zoo:NAME/FILE` of what edgeprune ships, or `hub:OWNER/NAME[/FILE]`.

    The hub's files are fetched with huggingface-hub; its cache applies.

    Raises:
        InputError: the zoo has no such file, or not in an installed wheel; the hub can't be reached or does not have it.
    """
    if source.startswith(ZOO):
        path = ROOT / "zoo" / f"{source[len(ZOO) :]}.safetensors"
        if path.is_file():
            return path
        here = [f"{ZOO}{file.parent.name}/{file.stem}" for file in sorted((ROOT / "zoo").glob("*/*.safetensors"))]
        raise InputError(
            f"weights {source!r} are not here; this installation has {', '.join(here)}. A wheel leaves out what is only "
            "trained from: clone the repository, or give the path of a .safetensors file"
        )
    if not source.startswith(HUB):
        return Path(source)
    from huggingface_hub import hf_hub_download

    owner, _, rest = source[len(HUB) :].partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name:
        raise InputError(f"weights {source!r}: expected hub:OWNER/NAME or hub:OWNER/NAME/FILE")
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file or "model.safetensors"))
    except Exception as error:  # its own, its HTTP library's and the system's share no base but this one
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"weights {source!r} can't be fetched ({type(error).__name__}: {reason}); "
            f"download the .safetensors file and give its path"
        ) from None


def load_timm(model: Segmenter, tensors: dict[str, Tensor]) -> Loaded:
    """Copies what a plain ViT of the same width has into `model`.

    Class and register tokens have no place in a dense model and are left over with their positions; position
    embeddings and patch embeddings are resized; layer scale is folded into the linears that it follows where the model
    has none; a convolutional stem keeps its own start; depth beyond the file's keeps its start, depth beyond the
    model's is left over.

    Raises:
        InputError: the file is no plain ViT, of another width, or its positions are of no known grid.
    """
    tensors = {PREFIXES.sub("", key): value for key, value in tensors.items()}
    own = dict(model.named_parameters())
    width = model.pos_embed.shape[-1]
    found = tensors.get("blocks.0.attn.qkv.weight")
    if found is None:
        raise InputError(
            f"no timm-format ViT: expected keys such as 'blocks.0.attn.qkv.weight', found {', '.join(list(tensors)[:3])}"
        )
    if found.shape[1] != width:
        raise InputError(f"the weights are {found.shape[1]} wide, the model {width}: choose model.size to match")
    adapted = dict(tensors)
    if "pos_embed" in tensors:
        adapted["pos_embed"] = _own_positions(tensors, model.grid)
    if isinstance(model.stem, PatchStem) and "patch_embed.proj.weight" in tensors:
        adapted["patch_embed.proj.weight"] = resize_patches(tensors["patch_embed.proj.weight"], PATCH)
    folded = _fold_layer_scale(adapted) if model.spec.layer_scale is None else []
    _check_blocks(model, adapted)
    renamed = {"patch_embed.proj.weight": "stem.proj.weight", "patch_embed.proj.bias": "stem.proj.bias"}
    taken, left_over = list(folded), []
    for key, value in adapted.items():
        target = renamed.get(key, key)
        stem = target.startswith("stem.") and not isinstance(model.stem, PatchStem)
        if stem or target not in own or target.startswith("head."):
            left_over.append(key)
            continue
        if own[target].shape != value.shape:
            raise InputError(f"weights: {key} is {tuple(value.shape)}, the model expects {tuple(own[target].shape)}")
        with torch.no_grad():
            own[target].copy_(value)
        taken.append(target)
    expected = ("blocks.", "norm.", "pos_embed", *(("stem.",) if isinstance(model.stem, PatchStem) else ()))
    missing = [key for key in own if key.startswith(expected) and "_quantizer." not in key and key not in taken]
    return Loaded(taken, left_over, missing)


def _own_positions(tensors: dict[str, Tensor], grid: tuple[int, int]) -> Tensor:
    """Positions of the model's grid: without those of class and register tokens, which come first, and resized.

    A file names its extra tokens but not its grid: the count without them is the model's own grid or a square.
    """
    pos_1ND = tensors["pos_embed"]
    classes = sum(tensors[key].shape[-2] for key in ("cls_token", "dist_token") if key in tensors)
    registers = sum(tensors[key].shape[-2] for key in ("reg_token", "register_tokens") if key in tensors)
    for extra in (classes + registers, classes, 0):
        count = pos_1ND.shape[1] - extra
        if count == grid[0] * grid[1]:
            return pos_1ND[:, extra:]
        side = isqrt(max(0, count))
        if count > 0 and side**2 == count:
            return resize_positions(pos_1ND[:, extra:], (side, side), grid)
    raise InputError(
        f"weights: pos_embed has {pos_1ND.shape[1]} positions, neither a square grid nor the model's "
        f"{grid[0]}x{grid[1]} (with or without class and register tokens); resample them to a square first"
    )


def resize_patches(weight_D3PP: Tensor, patch: int) -> Tensor:
    """Patch embedding for another patch size: its product with a resized patch stays what it was with the patch
    (FlexiViT, Beyer 2023, section 3.4: the pseudo-inverse of the resize)."""
    old = weight_D3PP.shape[-1]
    if old == patch:
        return weight_D3PP
    basis = torch.eye(old * old).reshape(old * old, 1, old, old)  # every pixel of a patch in turn
    resize = F.interpolate(basis, size=(patch, patch), mode="bicubic", align_corners=False, antialias=True).flatten(1)
    weight_D3P = weight_D3PP.float().flatten(2) @ torch.linalg.pinv(resize).T
    return weight_D3P.unflatten(-1, (patch, patch)).to(weight_D3PP.dtype)


def _fold_layer_scale(tensors: dict[str, Tensor]) -> list[str]:
    """gamma * (W x + b) = (gamma W) x + gamma b: DINOv2's layer scale, for a model without; returns the keys folded."""
    folded = []
    for branch, linear in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
        for key in [key for key in tensors if re.fullmatch(rf"blocks\.\d+\.{branch}\.gamma", key)]:
            gamma_D, stem = tensors.pop(key).float(), key.removesuffix(f"{branch}.gamma") + linear
            for part in (f"{stem}.weight", f"{stem}.bias"):
                if part in tensors:
                    value = tensors[part]
                    tensors[part] = (value.float() * gamma_D.reshape(-1, *(1,) * (value.ndim - 1))).to(value.dtype)
            folded.append(key)
    return folded


def _check_blocks(model: Segmenter, tensors: dict[str, Tensor]) -> None:
    """Refuses blocks that lack a part of the model's: another kind of block under the same names."""
    present = {key.split(".")[1] for key in tensors if key.startswith("blocks.")}
    for key, _ in model.named_parameters():
        if (
            key.startswith("blocks.")
            and "_quantizer." not in key
            and key.split(".")[1] in present
            and key not in tensors
        ):
            if ".ls" in key:
                raise InputError(f"the weights have no layer scale ({key}): leave model.layer_scale out")
            raise InputError(f"the weights lack {key}: their blocks are not those of a plain ViT")
