"""Loading timm-format weights: DeiT, AugReg, MAE and DINOv2 by their key names; what of a file a model takes."""

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape, TokenPolicy
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.model.vit_embedding import resize_patches
from edgeprune.model.weights import load_timm
from edgeprune.pruning.methods import make_policy
from edgeprune.quantize.linear import quantize_linears
from tests import models
from tests.model.vits import D, dinov2, fresh, vit


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


def test_patches_of_14_stay_as_they_are_in_a_model_of_14() -> None:
    spec = ModelSpec.model_validate({"depth": 2, "stem": "patch-conv", "patch": 14, "height": 56, "width": 84})
    model, tensors = Segmenter(spec, TokenPolicy(Shape(D, 2, spec.grid, 11))), dinov2()
    assert load_timm(model, tensors).missing == []
    assert torch.equal(model.stem.proj.weight, tensors["patch_embed.proj.weight"])


def test_weights_without_layer_scale_for_a_model_that_has_one() -> None:
    with pytest.raises(InputError, match=r"no layer scale \(blocks.0.ls1.gamma\): leave model.layer_scale out"):
        load_timm(fresh(layer_scale=1e-5), vit())


def test_a_convolutional_stem_keeps_its_own_start() -> None:
    model = fresh(stem="conv")
    before = model.stem.proj.weight.clone()
    loaded = load_timm(model, vit())
    assert {"patch_embed.proj.weight", "patch_embed.proj.bias"} <= set(loaded.left_over)
    assert loaded.missing == []
    assert torch.equal(model.stem.proj.weight, before)


def test_a_patch_stem_with_convolutions_beside_it_takes_the_patches_and_keeps_the_convolutions_start() -> None:
    model, tensors = fresh(stem="patch-conv"), dinov2()
    before = {key: value.clone() for key, value in model.stem.state_dict().items()}
    loaded = load_timm(model, tensors)
    assert loaded.missing == [] and "stem.proj.weight" in loaded.taken
    torch.testing.assert_close(model.stem.proj.weight, resize_patches(tensors["patch_embed.proj.weight"], 16))
    assert all(torch.equal(value, before[key]) for key, value in model.stem.state_dict().items() if "stride" in key)


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
