"""Names of Hugging Face's transformers: a table from its ViT, DeiT, ViT-MAE and DINOv2 models to timm's names.

Both its spellings are read: the one that files on the hub have (`encoder.layer.0.attention.attention.query`), and the one of
its models since version 5 (`layers.0.attention.q_proj`). What surrounds a model's own tensors (`vit.`, `deit.`) stays before
the name, as with timm's. Separate q, k and v, which timm spells alike, are joined by `vit_names.spelled_plainly`.
"""

import re

from torch import Tensor

# of every family, before and behind the blocks
AROUND = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.mask_token": "mask_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}
# inside a block: of ViT, DeiT and ViT-MAE, then of DINOv2
VIT = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.attention.query": "attn.q_proj",
    "attention.attention.key": "attn.k_proj",
    "attention.attention.value": "attn.v_proj",
    "attention.output.dense": "attn.proj",
    "attention.q_proj": "attn.q_proj",
    "attention.k_proj": "attn.k_proj",
    "attention.v_proj": "attn.v_proj",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
DINOV2 = VIT | {"layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma"}

BLOCK = re.compile(r"(^|.*?\.)(?:encoder\.)?layers?\.(\d+)\.(.+)")
FIRST = re.compile(r"(^|.*\.)layers?\.0\.attention\.(?:output\.dense|o_proj)\.weight")


def in_timms_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under timm's names where they have transformers'; any others as they are."""
    if not any(FIRST.fullmatch(key) for key in tensors):
        return tensors
    inside = DINOV2 if any("layer_scale1" in key for key in tensors) else VIT
    return {_renamed(key, inside): value for key, value in tensors.items()}


def _renamed(key: str, inside: dict[str, str]) -> str:
    if block := BLOCK.fullmatch(key):
        before, number, name = block.groups()
        return f"{before}blocks.{number}.{_replaced(name, inside)}"
    for old, new in AROUND.items():
        if found := re.fullmatch(rf"(|.*\.){re.escape(old)}(|\.\w+)", key):
            return f"{found[1]}{new}{found[2]}"
    return key


def _replaced(name: str, table: dict[str, str]) -> str:
    """`layernorm_before.weight` by the table's `layernorm_before`."""
    stem, dot, kind = name.rpartition(".")
    return table.get(name) or table.get(stem, stem) + dot + kind
