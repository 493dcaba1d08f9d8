"""Weights under timm's names (`hf_names` makes these of transformers'): which file holds what the plain ViT here computes, and
under which spelling.

What the blocks here compute under other names or in other parts (separate q, k and v; biases that are left out; layer
scale as BEiT spells it) is rewritten, exactly. What they don't compute is refused with its keys: left over in silence it
would leave blocks that do something else than they were trained for.

Shapes: D width.
"""

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from edgeprune.base.errors import InputError

FIRST = "blocks.0.attn.proj.weight"  # what every timm-format ViT has
LINEARS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")

# what other kinds of ViT hold that changes what the blocks compute
KINDS: dict[str, str] = {
    r"blocks\.\d+\.attn\.[qk]_norm\.": "a norm on queries and keys",
    r"blocks\.\d+\.attn\.(relative_position|rel_pos)|^rel_pos": "relative positions in attention",
    r"(^|\.)rope|(^|\.)freqs|periods$": "rotary positions",
    r"^norm_pre\.|^ln_pre\.": "a norm before the first block",
    r"blocks\.\d+\.mlp\.(w12|w3|w1|w2|fc1_g|fc1_x)\.": "SwiGLU",
    r"blocks\.\d+\.(attn|mlp)\.norm\.": "a norm inside attention or MLP",
    r"^patch_embed\.(backbone|norm|proj\.\d)": "a stem of its own before the patches",
    r"^pos_embed.": "positions in several parts",
    r"^blocks\.\d+\.": "parts that blocks of a plain ViT don't have",
}
# what stands beside the tokens of the grid, or behind the last norm: nothing here is made of it
ASIDE = re.compile(
    r"^(cls_token|dist_token|reg_token|register_tokens|mask_token|storage_tokens|cls_pos_embed|head|fc_norm|pre_logits"
    r"|attn_pool|pooler|decoder|decode_head|auxiliary_head|neck|dino_head|ibot_head|classifier)"
)
PLAIN = "choose a plain ViT (DeiT, AugReg, MAE or DINOv2)"


def unwrap(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The ViT's own tensors without what training code wraps around their names (`module.`, `model.`, `state_dict.`,
    `backbone.`), and the keys outside it.

    Raises:
        InputError: no timm-format ViT is in it, or several are.
    """
    prefixes = [key.removesuffix(FIRST) for key in tensors if key.endswith(FIRST)]
    prefixes = [prefix for prefix in prefixes if not prefix or prefix.endswith(".")]
    if not prefixes:
        raise InputError(
            f"no timm-format ViT: expected keys such as {FIRST!r}, found {', '.join(list(tensors)[:3]) or 'nothing'}"
        )
    if len(prefixes) > 1:
        raise InputError(
            f"the weights hold several transformers, under {' and '.join(repr(prefix) for prefix in sorted(prefixes)[:3])}; "
            "save the tensors of one of them in a file of its own (a hierarchical one, as Swin, has no place here)"
        )
    inside = {key[len(prefixes[0]) :]: value for key, value in tensors.items() if key.startswith(prefixes[0])}
    return inside, [key for key in tensors if not key.startswith(prefixes[0])]


def spelled_plainly(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that compute what the given ones do, in the names and parts of the blocks here; others pass as they are.

    Raises:
        InputError: a tensor of whole numbers, or a norm without a bias, which is an RMSNorm.
    """
    whole = [key for key, value in tensors.items() if key.startswith("blocks.") and not value.is_floating_point()]
    if whole:
        raise InputError(
            f"weights: {few(whole)} in whole numbers: a quantized file, or tables of another kind of ViT; {PLAIN}"
        )
    plain = dict(tensors)
    for stem in sorted({match[0] for key in tensors if (match := re.match(r"blocks\.\d+\.", key))}):
        for old, new in (("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma")):
            if stem + old in plain:
                plain[stem + new] = plain.pop(stem + old)
        _join_qkv(plain, f"{stem}attn.")
        for name in LINEARS:
            weight = plain.get(f"{stem}{name}.weight")
            if weight is not None and weight.ndim == 2:
                plain.setdefault(f"{stem}{name}.bias", weight.new_zeros(weight.shape[0]))
        bare = [f"{stem}{name}" for name in ("norm1", "norm2") if f"{stem}{name}.weight" in plain]
        bare = [name for name in bare if f"{name}.bias" not in plain]
        if bare:
            raise InputError(
                f"weights: {bare[0]} has no bias, so it is an RMSNorm; blocks here have LayerNorm: {PLAIN}"
            )
    proj = plain.get("patch_embed.proj.weight")
    if proj is not None and proj.ndim == 4:
        plain.setdefault("patch_embed.proj.bias", proj.new_zeros(proj.shape[0]))
    return plain


def _join_qkv(plain: dict[str, Tensor], attn: str) -> None:
    """Separate q, k and v into one linear; biases of q and v alone (BEiT, EVA: that of k adds nothing to a softmax)."""
    names = [f"{attn}{part}_proj.weight" for part in "qkv"]
    if all(name in plain for name in names):
        weights = [plain.pop(name) for name in names]
        biases = [
            plain.pop(f"{attn}{part}_proj.bias", weight.new_zeros(len(weight)))
            for part, weight in zip("qkv", weights, strict=True)
        ]
        plain[f"{attn}qkv.weight"], plain[f"{attn}qkv.bias"] = torch.cat(weights), torch.cat(biases)
    if f"{attn}q_bias" in plain and f"{attn}v_bias" in plain:
        q_D, v_D = plain.pop(f"{attn}q_bias"), plain.pop(f"{attn}v_bias")
        plain.pop(f"{attn}k_bias", None)
        plain[f"{attn}qkv.bias"] = torch.cat((q_D, torch.zeros_like(q_D), v_D))


def refuse_other_kinds(left_over: Iterable[str]) -> None:
    """Refuses keys that found no place and are not beside the grid's tokens or behind the last norm.

    Raises:
        InputError: what kind of ViT has them.
    """
    changing = [key for key in left_over if not ASIDE.match(key)]
    if not changing:
        return
    for pattern, what in KINDS.items():
        found = [key for key in changing if re.search(pattern, key)]
        if found:
            raise InputError(f"weights: {what} ({few(found)}) has no place in the blocks here; {PLAIN}")
    raise InputError(
        f"weights: {few(changing)} have no place in a plain ViT, and may change what it computes; {PLAIN}, or take them out of "
        "the file where they stand behind the last norm"
    )


def few(keys: list[str]) -> str:
    """`"2 tensors: a, b"`, `"9 tensors: a, b, c ..."`."""
    return f"{len(keys)} tensors: {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}"
