"""Other kinds of ViT, which are refused with their keys, and other spellings of a plain one, which load."""

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.model.weights import load_timm
from tests.model.vits import D, fresh, vit

OTHER_KINDS: list[tuple[dict[str, tuple[int, ...]], str, list[str]]] = [
    ({"blocks.0.attn.q_norm.weight": (64,), "blocks.0.attn.k_norm.weight": (64,)}, "a norm on queries and keys", []),
    ({"norm_pre.weight": (D,), "norm_pre.bias": (D,)}, "a norm before the first block", []),
    ({}, "have no pos_embed", ["pos_embed"]),
    ({"blocks.0.attn.relative_position_bias_table": (729, 3)}, "relative positions in attention", []),
    ({"blocks.0.attn.rel_pos_h": (27, 64)}, "relative positions in attention", []),
    ({"rel_pos_bias.relative_position_bias_table": (729, 3)}, "relative positions in attention", []),
    ({"rope.periods": (16,)}, "rotary positions", []),
    ({"blocks.0.attn.rope.freqs": (16,)}, "rotary positions", []),
    ({"blocks.0.mlp.norm.weight": (768,), "blocks.0.mlp.norm.bias": (768,)}, "a norm inside attention or MLP", []),
    ({"blocks.0.mlp.w12.weight": (1024, D), "blocks.0.mlp.w3.weight": (D, 512)}, "SwiGLU",
     ["blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc1.bias", "blocks.0.mlp.fc2.weight", "blocks.0.mlp.fc2.bias"]),
    ({"blocks.1.attn.proj_l.weight": (3, 3)}, "parts that blocks of a plain ViT don't have", []),
    ({"patch_embed.norm.weight": (D,)}, "a stem of its own", []),
    ({"patch_embed.backbone.stem.weight": (8, 3, 3, 3)}, "a stem of its own", ["patch_embed.proj.weight"]),
    ({"adapter.weight": (D, D)}, "adapter.weight have no place in a plain ViT", []),
    ({}, "norm1 has no bias, so it is an RMSNorm", ["blocks.1.norm1.bias"]),
    ({"blocks.0.mlp.fc1.weight": (3 * D, D), "blocks.0.mlp.fc1.bias": (3 * D,)}, r"fc1.weight is \(576, 192\)", []),
    ({"patch_embed.proj.weight": (D, 1, 16, 16)}, "square patches of a colour image", []),
    ({"patch_embed.proj.weight": (D, 3, 16, 8)}, "square patches of a colour image", []),
    ({}, "have no patch_embed.proj: .* choose model.stem: conv", ["patch_embed.proj.weight"]),
]  # fmt: skip


@pytest.mark.parametrize(("added", "words", "taken_out"), OTHER_KINDS)
def test_what_a_plain_block_does_not_compute_is_refused_with_its_keys(
    added: dict[str, tuple[int, ...]], words: str, taken_out: list[str]
) -> None:
    tensors = {key: value for key, value in vit().items() if key not in taken_out}
    tensors |= {key: torch.ones(shape) for key, shape in added.items()}
    model = fresh()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match=words) as found:
        load_timm(model, tensors)
    assert "\n" not in str(found.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())  # nothing half loaded


def test_a_conv_stem_takes_the_place_of_any_stem() -> None:
    hybrid = {key: value for key, value in vit().items() if not key.startswith("patch_embed")}
    hybrid["patch_embed.backbone.stem.weight"] = torch.zeros(8, 3, 3, 3)
    assert load_timm(fresh(stem="conv"), hybrid).missing == []


def test_what_stands_behind_the_last_norm_is_left_over() -> None:
    behind = [
        "fc_norm.weight",
        "head_dist.weight",
        "pre_logits.fc.weight",
        "attn_pool.q.weight",
        "decode_head.conv.weight",
    ]
    loaded = load_timm(fresh(), vit() | {key: torch.zeros(4) for key in behind})
    assert set(behind) <= set(loaded.left_over)


@pytest.mark.parametrize("spelling", ["separate", "q_and_v_biases", "no_biases", "beit_scale"])
def test_other_spellings_of_the_same_function_load_exactly(spelling: str) -> None:
    tensors, expected = vit(), fresh()
    if spelling == "beit_scale":
        for index in range(2):
            for branch in ("ls1", "ls2"):
                tensors[f"blocks.{index}.{branch}.gamma"] = torch.linspace(0.5, 1.5, D)
    for index in range(2):
        stem = f"blocks.{index}.attn."
        bias = tensors[f"{stem}qkv.bias"]
        if spelling == "q_and_v_biases":  # that of k moves every logit of a query alike
            bias[D : 2 * D] = 0
        if spelling == "no_biases":
            bias.zero_()
            tensors[f"blocks.{index}.mlp.fc1.bias"].zero_()
    load_timm(expected, tensors)
    for index in range(2):
        stem = f"blocks.{index}.attn."
        if spelling == "separate":
            weight, bias = tensors.pop(f"{stem}qkv.weight"), tensors.pop(f"{stem}qkv.bias")
            for part, name in enumerate("qkv"):
                tensors[f"{stem}{name}_proj.weight"] = weight[part * D : (part + 1) * D]
                tensors[f"{stem}{name}_proj.bias"] = bias[part * D : (part + 1) * D]
        elif spelling == "q_and_v_biases":
            bias = tensors.pop(f"{stem}qkv.bias")
            tensors |= {f"{stem}q_bias": bias[:D], f"{stem}v_bias": bias[2 * D :]}
        elif spelling == "no_biases":
            del tensors[f"{stem}qkv.bias"], tensors[f"blocks.{index}.mlp.fc1.bias"]
        else:
            for number, branch in enumerate(("ls1", "ls2"), start=1):
                tensors[f"blocks.{index}.gamma_{number}"] = tensors.pop(f"blocks.{index}.{branch}.gamma")
    model = fresh()
    assert load_timm(model, tensors).missing == []
    for key, value in expected.state_dict().items():
        if not key.startswith("head."):
            assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize("prefix", ["module.", "model.", "state_dict.model.", "student.backbone.", "visual.trunk."])
def test_names_that_training_code_wraps_are_unwrapped(prefix: str) -> None:
    loaded = load_timm(
        fresh(), {prefix + key: value for key, value in vit().items()} | {"optimizer.step": torch.ones(1)}
    )
    assert loaded.missing == [] and "optimizer.step" in loaded.left_over


def test_a_file_of_two_transformers_is_refused() -> None:
    both = {f"{who}.{key}": value for who in ("student", "teacher") for key, value in vit().items()}
    with pytest.raises(InputError, match=r"several transformers, under 'student\.' and 'teacher\.'"):
        load_timm(fresh(), both)


def test_values_that_are_no_weights_are_refused() -> None:
    with pytest.raises(InputError, match="norm.weight holds values that are no finite numbers"):
        load_timm(fresh(), vit() | {"norm.weight": torch.full((D,), float("nan"))})
    with pytest.raises(InputError, match="blocks.0.attn.qkv.weight in whole numbers: a quantized file"):
        load_timm(fresh(), vit() | {"blocks.0.attn.qkv.weight": torch.ones(3 * D, D, dtype=torch.int8)})
    bf16 = {key: value.bfloat16() for key, value in vit(patch=14, grid=(16, 16)).items()}
    assert load_timm(fresh(), bf16).missing == []


def test_what_is_no_vit_is_refused() -> None:
    with pytest.raises(InputError, match="no timm-format ViT.*found layer1.conv.weight"):
        load_timm(fresh(), {"layer1.conv.weight": torch.zeros(3)})
    swiglu = {key: value for key, value in vit().items() if ".fc" not in key}
    with pytest.raises(InputError, match=r"lack blocks.0.mlp.fc1.*plain ViT"):
        load_timm(fresh(), swiglu)
