"""Loads ViT weights (DeiT, AugReg, MAE, DINOv2) into a model by their key names, timm's or those of transformers."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.blocks import HEAD_SIZE
from edgeprune.model.hf_names import in_timms_names
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.stem import PatchStem
from edgeprune.model.vit_embedding import (
    grid_of,
    patches_of,
    positions_of,
    resize_patches,
    section,
    take_extra_tokens,
)
from edgeprune.model.vit_names import FIRST, PLAIN, refuse_other_kinds, spelled_plainly, unwrap


@dataclass
class Loaded:
    """What a weight file gave: keys taken, keys of the file left over, keys of the model it does not have."""

    taken: list[str]
    left_over: list[str]
    missing: list[str]


def load_timm(model: Segmenter, tensors: dict[str, Tensor], about: dict[str, Any] | None = None) -> Loaded:
    """Copies what a plain ViT of the same width has into `model`.

    Class and register tokens are left over with their positions where the model has no extra tokens; position embeddings and
    patch embeddings are resized; layer scale is folded into the linears that it follows where the model
    has none; a convolutional stem keeps its own start; depth beyond the file's keeps its start, depth beyond the
    model's is left over. Heads are of 64, which a file does not say.

    Args:
        about: what `config.json` beside the file says (see `weight_files.read_config`).

    Raises:
        InputError: the file is no plain ViT (see `vit_names`), of another width, other heads or other extra tokens, its
            positions are of no known grid, or it holds what is no number.
    """
    inside, outside = unwrap(in_timms_names(tensors))
    adapted = spelled_plainly(inside)
    _check_kind(model, adapted, about or {})
    positions = positions_of(adapted, model.grid, grid_of(adapted, about or {}))
    adapted["pos_embed"] = positions.grid_1ND
    joined = take_extra_tokens(adapted, positions, model.spec.extra_tokens) if model.spec.extra_tokens else []
    patches = isinstance(model.stem, PatchStem)
    if patches:
        adapted["patch_embed.proj.weight"] = resize_patches(patches_of(adapted), model.spec.patch)
    folded = fold_layer_scale(adapted) if model.spec.layer_scale is None else []
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
    expected = ("blocks.", "norm.", "pos_embed", "extra_tokens", *(("stem.proj.",) if patches else ()))
    taken = [*folded, *joined, *chosen]
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


def _check_kind(model: Segmenter, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    width = model.pos_embed.shape[-1]
    first = tensors.get("blocks.0.attn.qkv.weight", tensors[FIRST])
    found = first.shape[1] if first.ndim == 2 else None
    if found != width:
        raise InputError(f"the weights are {found} wide, the model {width}: choose model.size to match")
    heads = section(about, "model_args").get("num_heads", about.get("num_attention_heads"))
    if heads is not None and heads != width // HEAD_SIZE:
        raise InputError(
            f"the weights have {heads} heads (config.json beside them), blocks here {width // HEAD_SIZE} of {HEAD_SIZE}; "
            f"{PLAIN}"
        )
    activation = about.get("hidden_act", "gelu")
    if activation != "gelu":
        raise InputError(f"the weights have {activation} (config.json beside them), blocks here GELU; {PLAIN}")


def fold_layer_scale(tensors: dict[str, Tensor]) -> list[str]:
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
