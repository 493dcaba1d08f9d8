"""Position embeddings of a file in a model of another grid: which grid they are of, and what stands beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape, TokenPolicy
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec
from edgeprune.model.weight_files import read_config
from edgeprune.model.weights import load_timm
from tests.model.vits import D, fresh, vit


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
