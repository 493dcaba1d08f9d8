"""Models of transformers, small and random: saved in its way, loaded in ours, equal in their final tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.checkpoint import shape_of
from edgeprune.model.policy import TokenPolicy
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec
from edgeprune.model.weight_files import find_weights, read_config, read_normalise, read_safetensors
from edgeprune.model.weights import Loaded, load_timm
from tests.model.vits import D

SIDE = 4  # patches
HALF, IMAGENET = [0.5] * 3, ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
# its class, its patch, our extra tokens, what is left over of it
FAMILIES = {
    "AugReg": ("ViT", 16, 1, {"pooler.dense.weight", "pooler.dense.bias"}),
    "DeiT": ("DeiT", 16, 2, {"pooler.dense.weight", "pooler.dense.bias"}),
    "MAE": ("ViTMAE", 16, 1, set[str]()),
    "DINOv2": ("Dinov2", 14, 1, {"mask_token"}),
    "DINOv2 with registers": ("Dinov2WithRegisters", 14, 5, {"mask_token"}),
}


def original(name: str, patch: int) -> Any:
    """A model of two blocks with random weights, its norms, scales and biases too."""
    import transformers  # three seconds, of one worker alone

    settings = {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": SIDE * patch}
    config = getattr(transformers, f"{name}Config")(
        patch_size=patch, intermediate_size=4 * D, mask_ratio=0.0, **settings
    )
    model = getattr(transformers, f"{name}Model")(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * drawn if parameter.ndim == 1 else 0.1 * drawn)
    return model


def loaded(folder: Path, patch: int, extra: int, normalise: str = "imagenet") -> tuple[Segmenter, Loaded]:
    """Our model with the weights of a folder."""
    side = {"height": SIDE * patch, "width": SIDE * patch, "normalise": normalise}
    spec = ModelSpec.model_validate({"depth": 2, "stem": "patch", "patch": patch, "extra_tokens": extra, **side})
    model, path = Segmenter(spec, TokenPolicy(shape_of(spec))).eval(), find_weights(str(folder))
    return model, load_timm(model, read_safetensors(path), read_config(path))


@torch.no_grad()
def tokens(model: Segmenter, theirs: Any, extra: int) -> tuple[Tensor, Tensor]:
    """The final tokens of both, on the same levels."""
    side = model.spec.height
    images_B3HW = torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0)).float()
    order = {"noise": torch.arange(SIDE**2)[None].repeat(2, 1)} if "MAE" in type(theirs).__name__ else {}
    expected_BND = theirs(pixel_values=(images_B3HW - model.mean) / model.std, **order).last_hidden_state
    return model(images_B3HW).x_BND, expected_BND[:, extra:]


@pytest.mark.parametrize("family", FAMILIES)
def test_final_tokens_are_the_originals(family: str, tmp_path: Path) -> None:
    name, patch, extra, aside = FAMILIES[family]
    theirs = original(name, patch)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="900KB")  # in the spelling of the hub
    assert len(list((tmp_path / "shards").glob("model-0*.safetensors"))) > 2
    (tmp_path / "whole").mkdir()
    save_file(theirs.state_dict(), tmp_path / "whole" / "model.safetensors")  # in that of version 5
    for folder in (tmp_path / "shards", tmp_path / "whole"):
        model, found = loaded(folder, patch, extra, "half" if family == "AugReg" else "imagenet")
        assert found.missing == [] and set(found.left_over) == aside
        torch.testing.assert_close(*tokens(model, theirs, extra), rtol=1e-4, atol=1e-4)
    without, found = loaded(tmp_path / "whole", patch, 0)
    ours_BND, theirs_BND = tokens(without, theirs, extra)
    assert (ours_BND - theirs_BND).abs().max() > 1e-2 and "cls_token" in found.left_over


def test_heads_and_decoders_around_a_model_are_left_over(tmp_path: Path) -> None:
    tensors = {f"vit.{key}": value for key, value in original("ViT", 16).state_dict().items()}
    tensors |= {
        "classifier.weight": torch.zeros(5, D),
        "decoder.decoder_layers.0.attention.o_proj.weight": torch.ones(3),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    _, found = loaded(tmp_path, 16, 1)
    outside = {"classifier.weight", "decoder.decoder_layers.0.attention.o_proj.weight"}
    assert found.missing == [] and set(found.left_over) == outside | {"pooler.dense.weight", "pooler.dense.bias"}


def test_dinov3_is_refused_for_its_rotary_positions(tmp_path: Path) -> None:
    import transformers

    settings: Any = {"hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 4 * D}
    transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**settings)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no pos_embed.*rotary, as DINOv3's, or relative.*choose a plain ViT") as said:
        loaded(tmp_path, 16, 5)
    assert "\n" not in str(said.value)


def test_what_the_config_says_of_heads_and_activation_is_held_against_the_blocks(tmp_path: Path) -> None:
    original("ViT", 16).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for changes, said in (
        ({"num_attention_heads": 6}, "have 6 heads .*blocks here 3 of 64"),
        ({"hidden_act": "quick_gelu"}, "have quick_gelu .*blocks here GELU"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(InputError, match=said):
            loaded(tmp_path, 16, 1)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.json", {"pretrained_cfg": {"mean": HALF, "std": HALF}}, "half"),
        ("config.json", {"pretrained_cfg": {"mean": IMAGENET[0], "std": IMAGENET[1]}}, "imagenet"),
        ("preprocessor_config.json", {"image_mean": HALF, "image_std": HALF}, "half"),
        ("preprocessor_config.json", {"image_mean": IMAGENET[0], "image_std": IMAGENET[1]}, "imagenet"),
        ("preprocessor_config.json", {"image_mean": [0.1, 0.2, 0.3], "image_std": HALF}, None),
        ("preprocessor_config.json", {"image_mean": 0.5, "image_std": ["x", 1, 2]}, None),
        ("other.json", {}, None),
    ],
)
def test_levels_are_those_that_the_weights_were_trained_with(
    tmp_path: Path, file: str, content: dict[str, Any], expected: str | None
) -> None:
    (tmp_path / file).write_text(json.dumps(content))
    assert read_normalise(tmp_path / "model.safetensors") == expected
