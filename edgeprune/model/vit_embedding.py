"""What a ViT's file has before its first block, for a model of another grid or patch: patch embedding, positions, extra tokens.

Shapes: D width, N positions of the grid, E extra tokens, P pixels of a patch's side.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.segmenter import resize_positions
from edgeprune.model.vit_names import FIRST, PLAIN, refuse_other_kinds

# what stands before the grid's tokens, in this order
CLASSES, REGISTERS = ("cls_token", "dist_token"), ("reg_token", "register_tokens")


def section(about: dict[str, Any], name: str) -> dict[str, Any]:
    """A mapping inside what `config.json` says; empty where it has none."""
    found = about.get(name)
    return found if isinstance(found, dict) else {}


def grid_of(tensors: dict[str, Tensor], about: dict[str, Any]) -> tuple[int, int] | None:
    """Patches (Gh, Gw) of the file's own input size, where `config.json` says one: timm's `model_args.img_size`, transformers'
    `image_size`, else timm's `pretrained_cfg.input_size`."""
    size = section(about, "model_args").get("img_size", about.get("image_size"))
    size = [size, size] if isinstance(size, int) else size
    if size is None and isinstance(given := section(about, "pretrained_cfg").get("input_size"), list):
        size = given[1:]
    patches = tensors.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 4 or not isinstance(size, list | tuple) or len(size) != 2:
        return None
    if not all(isinstance(side, int) and 0 < side < 1 << 20 for side in size):
        return None
    return size[0] // patches.shape[2], size[1] // patches.shape[3]


@dataclass(frozen=True)
class Positions:
    """Position embeddings of a grid (1, N, D), and those of class and register tokens that stand before it (1, E, D): of all
    of them, of the class tokens alone, or of none."""

    grid_1ND: Tensor
    extra_1ED: Tensor


def positions_of(tensors: dict[str, Tensor], grid: tuple[int, int], written: tuple[int, int] | None) -> Positions:
    """A file's positions, resized to the model's grid.

    A file names its extra tokens but not its grid. Its own input size decides where `config.json` says it; else the grid is
    square, as timm's are; only a count that is no square can be the model's own grid.

    Args:
        written: the grid of the file's own input size (see `grid_of`).

    Raises:
        InputError: there are none, of another form, or of no known grid.
    """
    pos_1ND = tensors.get("pos_embed")
    if pos_1ND is None:
        raise InputError(
            f"the weights have no pos_embed: their positions come from elsewhere (rotary, as DINOv3's, or relative); {PLAIN}"
        )
    if pos_1ND.ndim != 3 or pos_1ND.shape[0] != 1 or pos_1ND.shape[2] != tensors[FIRST].shape[0]:
        raise InputError(f"weights: pos_embed is {tuple(pos_1ND.shape)}, expected (1, positions, width); {PLAIN}")
    classes, registers = _count_tokens(tensors, CLASSES), _count_tokens(tensors, REGISTERS)
    counts = {extra: pos_1ND.shape[1] - extra for extra in (classes + registers, classes, 0)}
    for known in (written, "square", grid):
        for extra, count in counts.items():
            theirs = (isqrt(max(0, count)),) * 2 if known == "square" else known
            if isinstance(theirs, tuple) and count > 0 and theirs[0] * theirs[1] == count:
                extra_1ED, pos_1ND = pos_1ND[:, :extra], pos_1ND[:, extra:]
                return Positions(pos_1ND if theirs == grid else resize_positions(pos_1ND, theirs, grid), extra_1ED)
    raise InputError(
        f"weights: pos_embed has {pos_1ND.shape[1]} positions, neither a square grid nor the model's "
        f"{grid[0]}x{grid[1]} (with or without class and register tokens); write their input size beside the file, in a "
        'config.json: {"pretrained_cfg": {"input_size": [3, HEIGHT, WIDTH]}}'
    )


def _count_tokens(tensors: dict[str, Tensor], names: tuple[str, ...]) -> int:
    return sum(tensors[name].shape[-2] for name in names if name in tensors and tensors[name].ndim >= 2)


def take_extra_tokens(tensors: dict[str, Tensor], positions: Positions, count: int) -> list[str]:
    """Puts class, distillation and register tokens with their positions, which are as constant as they are, in one tensor
    `extra_tokens` (1, E, D); returns the keys that it is made of.

    Args:
        count: E of the model.

    Raises:
        InputError: the file has more or fewer: a network trained with all of them computes something else with some.
    """
    width = positions.grid_1ND.shape[-1]
    names = [name for name in (*CLASSES, *REGISTERS) if name in tensors and tensors[name].shape[-1] == width]
    found = _count_tokens(tensors, tuple(names))
    if found != count:
        raise InputError(
            f"the weights have {found} tokens beside the grid ({', '.join(names) or 'no class token'}), the model {count}: "
            f"choose model.extra_tokens: {found}{', or 0 to leave them out' if found else ''}"
        )
    extra_1ED = torch.cat([tensors.pop(name).float().reshape(1, -1, width) for name in names], 1)
    extra_1ED[:, : positions.extra_1ED.shape[1]] += positions.extra_1ED.float()
    tensors["extra_tokens"] = extra_1ED
    return names


def patches_of(tensors: dict[str, Tensor]) -> Tensor:
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
