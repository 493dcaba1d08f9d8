"""State dicts of ViTs as timm saves them, and a model that takes them."""

import torch
from torch import Tensor

from edgeprune.model.policy import Shape, TokenPolicy
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec

D = 192


def vit(depth: int = 2, grid: tuple[int, int] = (14, 14), extra: int = 1, patch: int = 16) -> dict[str, Tensor]:
    """A ViT-Tiny as timm saves it, with a class token's position before those of the grid."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.05

    tensors = {
        "cls_token": draw(1, 1, D),
        "pos_embed": draw(1, extra + grid[0] * grid[1], D),
        "patch_embed.proj.weight": draw(D, 3, patch, patch),
        "patch_embed.proj.bias": draw(D),
        "norm.weight": draw(D),
        "norm.bias": draw(D),
        "head.weight": draw(1000, D),
        "head.bias": draw(1000),
    }
    for index in range(depth):
        for name, shape in {
            "norm1": (D,), "attn.qkv": (3 * D, D), "attn.proj": (D, D),
            "norm2": (D,), "mlp.fc1": (4 * D, D), "mlp.fc2": (D, 4 * D),
        }.items():  # fmt: skip
            tensors[f"blocks.{index}.{name}.weight"] = draw(*shape)
            tensors[f"blocks.{index}.{name}.bias"] = draw(shape[0])
    return tensors


def dinov2(registers: int = 0) -> dict[str, Tensor]:
    """Patches of 14, layer scale; with registers timm keeps positions of the grid alone."""
    tensors = vit(grid=(37, 37), extra=0 if registers else 1, patch=14)
    if registers:
        tensors["reg_token"] = torch.randn(1, registers, D)
    for index in range(2):
        for branch in ("ls1", "ls2"):
            tensors[f"blocks.{index}.{branch}.gamma"] = (
                torch.rand(D, generator=torch.Generator().manual_seed(index)) + 0.5
            )
    return tensors


def fresh(
    depth: int = 2, stem: str = "patch", height: int = 64, layer_scale: float | None = None, extra: int = 0
) -> Segmenter:
    torch.manual_seed(1)
    spec = ModelSpec.model_validate(
        {"depth": depth, "stem": stem, "height": height, "width": 96, "layer_scale": layer_scale, "extra_tokens": extra}
    )
    return Segmenter(spec, TokenPolicy(Shape(D, depth, (height // 16, 6), 11))).eval()
