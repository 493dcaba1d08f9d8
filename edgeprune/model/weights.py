"""Loads timm-format ViT weights (DeiT, AugReg, MAE, DINOv2) by their key names, from a safetensors file or the hub."""

import json
import os
import re
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.base.reading import ROOT
from edgeprune.model.blocks import HEAD_SIZE
from edgeprune.model.card import look_at_checkpoint
from edgeprune.model.segmenter import Segmenter, resize_positions
from edgeprune.model.stem import PATCH, PatchStem
from edgeprune.model.vit_names import FIRST, PLAIN, refuse_other_kinds, spelled_plainly, unwrap

HUB = "hub:"
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
    look_at_checkpoint(path)
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
        if os.path.isfile(path):
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


def load_timm(model: Segmenter, tensors: dict[str, Tensor], about: dict[str, Any] | None = None) -> Loaded:
    """Copies what a plain ViT of the same width has into `model`.

    Class and register tokens have no place in a dense model and are left over with their positions; position
    embeddings and patch embeddings are resized; layer scale is folded into the linears that it follows where the model
    has none; a convolutional stem keeps its own start; depth beyond the file's keeps its start, depth beyond the
    model's is left over. Heads are of 64, which a file does not say.

    Args:
        about: what `config.json` beside the file says (see `read_config`).

    Raises:
        InputError: the file is no plain ViT (see `vit_names`), of another width or other heads, its positions are of no
            known grid, or it holds what is no number.
    """
    inside, outside = unwrap(tensors)
    adapted = spelled_plainly(inside)
    _check_shape(model, adapted, about or {})
    adapted["pos_embed"] = _own_positions(adapted, model.grid, grid_of(adapted, about or {}))
    patches = isinstance(model.stem, PatchStem)
    if patches:
        adapted["patch_embed.proj.weight"] = resize_patches(_own_patches(adapted), PATCH)
    folded = _fold_layer_scale(adapted) if model.spec.layer_scale is None else []
    _check_blocks(model, adapted)
    own = dict(model.named_parameters())
    renamed = {"patch_embed.proj.weight": "stem.proj.weight", "patch_embed.proj.bias": "stem.proj.bias"}
    chosen = {renamed.get(key, key): value for key, value in adapted.items() if patches or key not in renamed}
    # the class head of a timm file has our head's name, and a stem is none of its own
    chosen = {key: value for key, value in chosen.items() if key in own and not key.startswith("head.")}
    left_over = [key for key in adapted if renamed.get(key, key) not in chosen]
    stem = () if patches else ("patch_embed.",)
    refuse_other_kinds(key for key in left_over if not (_beyond(key, model) or key.startswith(stem)))
    for key, value in chosen.items():
        if own[key].shape != value.shape:
            raise InputError(
                f"weights: {key} is {tuple(value.shape)}, the model expects {tuple(own[key].shape)}; {PLAIN}"
            )
        if not is_finite(value):
            raise InputError(
                f"weights: {key} holds values that are no finite numbers; copy the file again, or choose another"
            )
    with torch.no_grad():
        for key, value in chosen.items():
            own[key].copy_(value)
    expected = ("blocks.", "norm.", "pos_embed", *(("stem.proj.",) if patches else ()))
    taken = [*folded, *chosen]
    missing = [key for key in own if key.startswith(expected) and "_quantizer." not in key and key not in chosen]
    return Loaded(taken, [*left_over, *outside], missing)


def is_finite(value: Tensor) -> bool:
    """Whether a tensor holds numbers alone. Its extremes say so: one pass, and nothing as large as the tensor is made."""
    if not value.is_floating_point() or not value.numel():
        return True
    if value.dtype not in (
        torch.float32,
        torch.float16,
        torch.bfloat16,
    ):  # 8 bits have no order; 64 become a model's 32
        value = value.float()
    low, high = torch.aminmax(value)  # either is nan where a nan is among them
    return bool(torch.isfinite(low) and torch.isfinite(high))


def _beyond(key: str, model: Segmenter) -> bool:
    """Of a block that a model of less depth does not have."""
    number = re.match(r"blocks\.(\d+)\.", key)
    return number is not None and int(number[1]) >= model.spec.depth


def _check_shape(model: Segmenter, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    width = model.pos_embed.shape[-1]
    first = tensors.get("blocks.0.attn.qkv.weight", tensors[FIRST])
    found = first.shape[1] if first.ndim == 2 else None
    if found != width:
        raise InputError(f"the weights are {found} wide, the model {width}: choose model.size to match")
    heads = _part(about, "model_args").get("num_heads")
    if heads is not None and heads != width // HEAD_SIZE:
        raise InputError(
            f"the weights have {heads} heads (config.json beside them), blocks here {width // HEAD_SIZE} of {HEAD_SIZE}; "
            f"{PLAIN}"
        )


# ------------------------------------------------------------------------------------------------ positions and patches


def read_config(path: Path) -> dict[str, Any]:
    """`config.json` beside a weight file, as timm writes it; empty where there is none, or it is something else."""
    try:
        content = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _part(about: dict[str, Any], name: str) -> dict[str, Any]:
    part = about.get(name)
    return part if isinstance(part, dict) else {}


def grid_of(tensors: dict[str, Tensor], about: dict[str, Any]) -> tuple[int, int] | None:
    """Patches (Gh, Gw) of the file's own input size, where `config.json` says one: `model_args.img_size`, else
    `pretrained_cfg.input_size`."""
    size = _part(about, "model_args").get("img_size")
    size = [size, size] if isinstance(size, int) else size
    if size is None and isinstance(given := _part(about, "pretrained_cfg").get("input_size"), list):
        size = given[1:]
    patches = tensors.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 4 or not isinstance(size, list | tuple) or len(size) != 2:
        return None
    if not all(isinstance(side, int) and 0 < side < 1 << 20 for side in size):
        return None
    return size[0] // patches.shape[2], size[1] // patches.shape[3]


def _own_positions(tensors: dict[str, Tensor], grid: tuple[int, int], written: tuple[int, int] | None) -> Tensor:
    """Positions of the model's grid: without those of class and register tokens, which come first, and resized.

    A file names its extra tokens but not its grid. Its own input size decides where `config.json` says it; else the grid is
    square, as timm's are; only a count that is no square can be the model's own grid.
    """
    pos_1ND = tensors.get("pos_embed")
    if pos_1ND is None:
        raise InputError(
            f"the weights have no pos_embed: their positions come from elsewhere (rotary, relative); {PLAIN}"
        )
    if pos_1ND.ndim != 3 or pos_1ND.shape[0] != 1 or pos_1ND.shape[2] != tensors[FIRST].shape[0]:
        raise InputError(f"weights: pos_embed is {tuple(pos_1ND.shape)}, expected (1, positions, width); {PLAIN}")
    classes = _count_tokens(tensors, "cls_token", "dist_token")
    registers = _count_tokens(tensors, "reg_token", "register_tokens")
    counts = {extra: pos_1ND.shape[1] - extra for extra in (classes + registers, classes, 0)}
    for known in (written, "square", grid):
        for extra, count in counts.items():
            theirs = (isqrt(max(0, count)),) * 2 if known == "square" else known
            if isinstance(theirs, tuple) and count > 0 and theirs[0] * theirs[1] == count:
                pos_1ND = pos_1ND[:, extra:]
                return pos_1ND if theirs == grid else resize_positions(pos_1ND, theirs, grid)
    raise InputError(
        f"weights: pos_embed has {pos_1ND.shape[1]} positions, neither a square grid nor the model's "
        f"{grid[0]}x{grid[1]} (with or without class and register tokens); write their input size beside the file, in a "
        'config.json: {"pretrained_cfg": {"input_size": [3, HEIGHT, WIDTH]}}'
    )


def _count_tokens(tensors: dict[str, Tensor], *names: str) -> int:
    return sum(tensors[name].shape[-2] for name in names if name in tensors and tensors[name].ndim >= 2)


def _own_patches(tensors: dict[str, Tensor]) -> Tensor:
    """The patch embedding (D, 3, P, P) for a model whose stem is one."""
    weight = tensors.get("patch_embed.proj.weight")
    if weight is None:
        refuse_other_kinds(key for key in tensors if key.startswith("patch_embed.") and ".proj.bias" not in key)
        raise InputError("the weights have no patch_embed.proj: their stem is another; choose model.stem: conv")
    if weight.ndim != 4 or weight.shape[1] != 3 or weight.shape[2] != weight.shape[3]:
        raise InputError(
            f"weights: patch_embed.proj.weight is {tuple(weight.shape)}, expected (width, 3, patch, patch): square patches of "
            "a colour image; choose model.stem: conv"
        )
    return weight


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
    own = dict(model.named_parameters())
    for key in own:
        if (
            key.startswith("blocks.")
            and "_quantizer." not in key
            and key.split(".")[1] in present
            and key not in tensors
        ):
            if ".ls" in key:
                raise InputError(f"the weights have no layer scale ({key}): leave model.layer_scale out")
            refuse_other_kinds(other for other in tensors if other.startswith("blocks.") and other not in own)
            raise InputError(f"the weights lack {key}: their blocks are not those of a plain ViT; {PLAIN}")
