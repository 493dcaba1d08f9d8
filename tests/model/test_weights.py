"""Loading timm-format weights: DeiT, AugReg, MAE and DINOv2 by their key names; what is no ViT is refused with the reason."""

import json
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape, TokenPolicy
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.model.weights import find_weights, load_timm, read_config, read_safetensors, resize_patches
from edgeprune.pruning.methods import make_policy
from edgeprune.quantize.linear import quantize_linears
from tests import models

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


def fresh(depth: int = 2, stem: str = "patch", height: int = 64, layer_scale: float | None = None) -> Segmenter:
    torch.manual_seed(1)
    spec = ModelSpec.model_validate(
        {"depth": depth, "stem": stem, "height": height, "width": 96, "layer_scale": layer_scale}
    )
    return Segmenter(spec, TokenPolicy(Shape(D, depth, (height // 16, 6), 11))).eval()


def test_deit_and_augreg() -> None:
    model, tensors = fresh(), vit()
    loaded = load_timm(model, tensors)
    assert sorted(loaded.left_over) == ["cls_token", "head.bias", "head.weight"]
    assert loaded.missing == []
    assert len(loaded.taken) == len(tensors) - 3
    torch.testing.assert_close(models.block(model, 1).mlp.fc2.weight, tensors["blocks.1.mlp.fc2.weight"])
    torch.testing.assert_close(model.stem.proj.weight, tensors["patch_embed.proj.weight"])
    torch.testing.assert_close(model.norm.bias, tensors["norm.bias"])


def test_augregs_levels_are_a_choice() -> None:
    frame_HW3 = torch.randint(0, 256, (64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tokens = {}
    for normalise in ("imagenet", "half"):
        spec = ModelSpec.model_validate(
            {"depth": 2, "stem": "patch", "height": 64, "width": 96, "normalise": normalise}
        )
        model = Segmenter(spec, TokenPolicy(Shape(D, 2, (4, 6), 11))).eval()
        load_timm(model, vit())
        images_1HW3 = frame_HW3[None].permute(0, 3, 1, 2).float()
        tokens[normalise] = model.embed(images_1HW3)[0]
        if normalise == "half":
            expected = model.stem(images_1HW3 / 127.5 - 1)[0] + model.pos_embed
            torch.testing.assert_close(tokens[normalise], expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(tokens["imagenet"], tokens["half"], atol=1e-2)


def test_positions_lose_the_class_tokens_and_are_resized() -> None:
    model, tensors = fresh(), vit()
    ramp_W = torch.linspace(-1, 1, 14)
    tensors["pos_embed"][0, 1:] = ramp_W.repeat(14)[:, None]
    tensors["pos_embed"][0, 0] = 1000.0  # the class token's
    load_timm(model, tensors)
    pos_HW = model.pos_embed.detach()[0, :, 0].view(4, 6)
    assert pos_HW.abs().max() <= 1.1
    assert (pos_HW.diff(dim=1) > 0.2).all()


def test_a_distillation_token_has_a_position_too() -> None:
    tensors = vit(extra=2) | {"dist_token": torch.zeros(1, 1, D)}
    tensors["pos_embed"][0, :2] = 1000.0
    model = fresh()
    load_timm(model, tensors)
    assert model.pos_embed.abs().max() < 10


def test_mae_with_its_decoder_and_wrapped_names() -> None:
    tensors = {f"module.encoder.{key}": value for key, value in vit().items() if not key.startswith("head")}
    tensors |= {"decoder_embed.weight": torch.zeros(8, D), "mask_token": torch.zeros(1, 1, 8)}
    model = fresh()
    loaded = load_timm(model, tensors)
    assert sorted(loaded.left_over) == ["cls_token", "decoder_embed.weight", "mask_token"] and loaded.missing == []


def run_timm(tensors: dict[str, Tensor], x_ND: Tensor, index: int) -> Tensor:
    """A DINOv2 block, spelled out."""
    part = {key.removeprefix(f"blocks.{index}."): value for key, value in tensors.items()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ part[f"{name}.weight"].T + part[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, (D,), part[f"{name}.weight"], part[f"{name}.bias"], 1e-6)

    q, k, v = linear("attn.qkv", norm("norm1", x_ND)).reshape(-1, 3, 3, 64).permute(1, 2, 0, 3)
    attended = torch.softmax(q @ k.transpose(1, 2) / 8, -1) @ v
    x_ND = x_ND + part["ls1.gamma"] * linear("attn.proj", attended.transpose(0, 1).reshape(-1, D))
    hidden = torch.nn.functional.gelu(linear("mlp.fc1", norm("norm2", x_ND)))
    return x_ND + part["ls2.gamma"] * linear("mlp.fc2", hidden)


@pytest.mark.parametrize("layer_scale", [None, 1.0])
@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_computes_the_same_with_and_without_a_layer_scale_of_its_own(
    registers: int, layer_scale: float | None
) -> None:
    tensors = dinov2(registers)
    model = fresh(layer_scale=layer_scale)
    loaded = load_timm(model, tensors)
    assert loaded.missing == []
    assert set(loaded.left_over) == {"cls_token", "head.weight", "head.bias"} | ({"reg_token"} if registers else set())
    assert {"blocks.0.ls1.gamma", "blocks.1.ls2.gamma"} <= set(loaded.taken)
    x_ND = torch.randn(24, D)
    with torch.no_grad():
        torch.testing.assert_close(model.blocks[1](x_ND), run_timm(tensors, x_ND, 1), rtol=1e-4, atol=1e-4)


def test_patches_of_14_are_resized_so_that_smooth_patches_give_the_same_tokens() -> None:
    weight_D3PP = torch.randn(8, 3, 14, 14)
    resized = resize_patches(weight_D3PP, 16)
    assert resized.shape == (8, 3, 16, 16)
    x_13PP = torch.randn(1, 3, 14, 14)
    enlarged = torch.nn.functional.interpolate(x_13PP, size=(16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(
        (resized * enlarged).sum((1, 2, 3)), (weight_D3PP * x_13PP).sum((1, 2, 3)), rtol=1e-3, atol=1e-3
    )
    assert resize_patches(resized, 16) is resized


def test_weights_without_layer_scale_for_a_model_that_has_one() -> None:
    with pytest.raises(InputError, match=r"no layer scale \(blocks.0.ls1.gamma\): leave model.layer_scale out"):
        load_timm(fresh(layer_scale=1e-5), vit())


def test_a_grid_that_is_not_square_is_taken_where_it_is_the_models_own() -> None:
    model, tensors = fresh(height=80), vit(grid=(5, 6))
    load_timm(model, tensors)
    torch.testing.assert_close(model.pos_embed.detach(), tensors["pos_embed"][:, 1:])


def test_a_grid_that_is_neither_square_nor_the_models_own_is_refused() -> None:
    with pytest.raises(InputError, match="pos_embed has 769 positions.*4x6.*config.json.*input_size") as found:
        load_timm(fresh(), vit(grid=(24, 32)))
    assert "\n" not in str(found.value)


def resized(pos_GGD: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions (Gh, Gw, D) at another grid by a direct interpolation."""
    return torch.nn.functional.interpolate(
        pos_GGD.permute(2, 0, 1)[None], size=grid, mode="bicubic", align_corners=False, antialias=True
    )[0].permute(1, 2, 0)


# (grid of the file, its tokens beside the grid that have positions, keys of all tokens beside the grid)
CLASS, REGISTERS, DISTILLED = "cls_token", "reg_token", "dist_token"
PREFIXES = [(1, {CLASS: 1}), (0, {}), (2, {CLASS: 1, DISTILLED: 1}), (0, {CLASS: 1}), (5, {CLASS: 1, REGISTERS: 4}),
            (1, {CLASS: 1, REGISTERS: 4}), (0, {CLASS: 1, REGISTERS: 4})]  # fmt: skip


@pytest.mark.parametrize(("extra", "tokens"), PREFIXES)
def test_a_square_grid_is_square_whatever_grid_the_model_has(extra: int, tokens: dict[str, int]) -> None:
    """24x24 positions and a model of 18x32 patches: as many, and patch (5, 10) of the model is not (7, 2) of the file."""
    spec = ModelSpec.model_validate({"depth": 1, "stem": "patch", "height": 18 * 16, "width": 32 * 16})
    model = Segmenter(spec, TokenPolicy(Shape(D, 1, (18, 32), 11)))
    tensors = vit(depth=1, grid=(24, 24), extra=extra)
    del tensors["cls_token"]
    tensors |= {name: torch.zeros(1, count, D) for name, count in tokens.items()}
    tensors["pos_embed"] = torch.full((1, extra + 576, D), 1e6)
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    grid_GGD = (100 * rows + columns)[..., None] + torch.arange(D) / D  # every position another value
    tensors["pos_embed"][0, extra:] = grid_GGD.flatten(0, 1)
    load_timm(model, tensors)
    found_GGD = model.pos_embed.detach()[0].view(18, 32, D)
    torch.testing.assert_close(found_GGD, resized(grid_GGD, (18, 32)))
    # row 5.5 of 18 is 7.33 of 24, column 10.5 of 32 is 7.875 of 24; centres lie half a patch lower
    assert float(found_GGD[5, 10, 0]) == pytest.approx(
        100 * (5.5 * 24 / 18 - 0.5) + 10.5 * 24 / 32 - 0.5, abs=3.0
    )  # (7, 2) holds 702


def write_config(folder: Path, **content: object) -> dict[str, Any]:
    (folder / "config.json").write_text(json.dumps(content))
    return read_config(folder / "vit.safetensors")


def test_the_input_size_that_a_file_comes_with_decides(tmp_path: Path) -> None:
    tensors = vit(grid=(4, 6))  # 25 positions: 4x6 and a class token, or 5x5 without one's
    square = fresh()
    load_timm(square, tensors)
    torch.testing.assert_close(
        square.pos_embed.detach()[0].view(4, 6, D), resized(tensors["pos_embed"][0].view(5, 5, D), (4, 6))
    )
    for about in (
        write_config(tmp_path, pretrained_cfg={"input_size": [3, 64, 96]}),
        write_config(tmp_path, pretrained_cfg={"input_size": [3, 224, 224]}, model_args={"img_size": [64, 96]}),
    ):
        model = fresh()
        load_timm(model, tensors, about)
        torch.testing.assert_close(model.pos_embed.detach(), tensors["pos_embed"][:, 1:])
    wide = vit(grid=(24, 32))
    model = fresh()
    load_timm(model, wide, write_config(tmp_path, pretrained_cfg={"input_size": [3, 384, 512]}))
    torch.testing.assert_close(
        model.pos_embed.detach()[0].view(4, 6, D), resized(wide["pos_embed"][0, 1:].view(24, 32, D), (4, 6))
    )


@pytest.mark.parametrize(
    "text", ["", "[]", '{"pretrained_cfg": 3}', '{"pretrained_cfg": {"input_size": "x"}}', "{" * 9000]
)
def test_a_config_that_says_nothing_changes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    model, same = fresh(), fresh()
    load_timm(model, vit(), read_config(tmp_path / "vit.safetensors"))
    load_timm(same, vit(), read_config(tmp_path / "nowhere" / "vit.safetensors"))
    assert torch.equal(model.pos_embed, same.pos_embed)


def test_other_heads_are_refused_where_the_file_says_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"have 12 heads \(config.json beside them\), blocks here 3 of 64"):
        load_timm(fresh(), vit(), write_config(tmp_path, model_args={"num_heads": 12}))
    load_timm(fresh(), vit(), write_config(tmp_path, model_args={"num_heads": 3}))


@pytest.mark.parametrize("shape", [(197, D), (1, 14, 14, D), (2, 197, D), (1, 197, 384)])
def test_positions_of_another_form_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"pos_embed is .* expected \(1, positions, width\)"):
        load_timm(fresh(), vit() | {"pos_embed": torch.zeros(shape)})


# ------------------------------------------------------------------------------------------------ other kinds of ViT

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


def test_a_convolutional_stem_keeps_its_own_start() -> None:
    model = fresh(stem="conv")
    before = model.stem.proj.weight.clone()
    loaded = load_timm(model, vit())
    assert {"patch_embed.proj.weight", "patch_embed.proj.bias"} <= set(loaded.left_over)
    assert loaded.missing == []
    assert torch.equal(model.stem.proj.weight, before)


def test_depths_that_differ_are_said() -> None:
    assert "blocks.1.attn.qkv.weight" in load_timm(fresh(depth=1), vit(depth=2)).left_over
    deeper = load_timm(fresh(depth=3), vit(depth=2)).missing
    assert len(deeper) == 12 and all(key.startswith("blocks.2.") for key in deeper)


def test_half_precision_files_and_fake_quantized_models() -> None:
    model = fresh()
    quantize_linears(model)
    loaded = load_timm(model, {key: value.half() for key, value in vit().items()})
    assert loaded.missing == []
    assert models.block(model, 0).attn.qkv.weight.dtype == torch.float32
    torch.testing.assert_close(model.norm.weight, vit()["norm.weight"], rtol=1e-3, atol=1e-4)


def test_gates_keep_their_start() -> None:
    spec = ModelSpec(depth=2, stem="patch", height=64, width=96)
    model = Segmenter(spec, make_policy(PolicySpec(name="svit", options={"first": 1}), Shape(D, 2, (4, 6), 11)))
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    assert load_timm(model, vit()).missing == []
    assert all(torch.equal(value, before[key]) for key, value in model.policy.state_dict().items())


def test_another_width_is_refused() -> None:
    tensors = vit()
    tensors["blocks.0.attn.qkv.weight"] = torch.zeros(3 * 384, 384)
    with pytest.raises(InputError, match="384 wide, the model 192: choose model.size"):
        load_timm(fresh(), tensors)


def test_what_is_no_vit_is_refused() -> None:
    with pytest.raises(InputError, match="no timm-format ViT.*found layer1.conv.weight"):
        load_timm(fresh(), {"layer1.conv.weight": torch.zeros(3)})
    swiglu = {key: value for key, value in vit().items() if ".fc" not in key}
    with pytest.raises(InputError, match=r"lack blocks.0.mlp.fc1.*plain ViT"):
        load_timm(fresh(), swiglu)


# ------------------------------------------------------------------------------------------------ files and the hub


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "dense.safetensors")
    with pytest.raises(InputError, match=r"dens.safetensors is not there; that folder has dense.safetensors"):
        read_safetensors(tmp_path / "dens.safetensors")
    with pytest.raises(InputError, match="is not there; give a .safetensors file"):
        read_safetensors(tmp_path / "nowhere" / "dens.safetensors")


@pytest.mark.parametrize("size", [0, 4, 100, 5000])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "vit.safetensors"
    save_file(vit(), path)
    os.truncate(path, size)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_safetensors(path)


def test_a_hub_id_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, file: str) -> str:
        asked.append((repo, file))
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    save_file(vit(), tmp_path / "model.safetensors")
    assert load_timm(fresh(), read_safetensors(find_weights("hub:timm/deit_tiny"))).missing == []
    find_weights("hub:timm/deit_tiny/folder/other.safetensors")
    assert asked == [("timm/deit_tiny", "model.safetensors"), ("timm/deit_tiny", "folder/other.safetensors")]


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("no network and no cache"),
        HFValidationError("bad name"),
        Exception("an HTTP library's own: timed out"),
        OSError("no route"),
    ],
)
def test_a_hub_that_fails_is_one_line_with_a_way_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(repo: str, file: str) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(InputError, match=r"hub:timm/deit_tiny' can't be fetched.*give its path") as found:
        find_weights("hub:timm/deit_tiny")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("source", ["hub:", "hub:timm", "hub:/deit"])
def test_a_hub_id_without_owner_or_name_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="expected hub:OWNER/NAME"):
        find_weights(source)


def test_what_the_zoo_does_not_hold_is_one_line_with_what_it_does() -> None:
    assert find_weights("zoo:street-tiny/qat").is_file()
    with pytest.raises(InputError, match=r"'zoo:street-tiny/qta' are not here.*zoo:street-tiny/qat.*clone") as found:
        find_weights("zoo:street-tiny/qta")
    assert "\n" not in str(found.value)
