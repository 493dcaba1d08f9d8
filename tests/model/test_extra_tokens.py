"""Class, distillation and register tokens beside those of the grid: loaded with their positions, and in every block."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.checkpoint import save
from edgeprune.model.weights import load_timm
from edgeprune.quantize.loading import load, load_start
from tests import models
from tests.model.test_positions import PREFIXES
from tests.model.vits import D, fresh, vit


@pytest.mark.parametrize(("prefix", "tokens"), [each for each in PREFIXES if each[1]])
def test_they_are_taken_in_timms_order_with_the_positions_that_they_have(prefix: int, tokens: dict[str, int]) -> None:
    tensors = vit(extra=prefix)
    del tensors["cls_token"]
    tensors |= {name: torch.randn(1, count, D) for name, count in tokens.items()}
    model = fresh(extra=sum(tokens.values()))
    loaded = load_timm(model, tensors)
    expected_1ED = torch.cat([tensors[name] for name in tokens], 1)
    expected_1ED[:, :prefix] += tensors["pos_embed"][:, :prefix]
    assert model.extra_tokens is not None and loaded.missing == []
    torch.testing.assert_close(model.extra_tokens.detach(), expected_1ED)
    assert set(tokens) <= set(loaded.taken) and not set(tokens) & set(loaded.left_over)


def test_registers_as_facebook_names_them_follow_a_class_token_that_alone_has_a_position() -> None:
    tensors = vit() | {"register_tokens": torch.randn(1, 4, D)}
    model = fresh(extra=5)
    load_timm(model, tensors)
    assert model.extra_tokens is not None
    first_1D = tensors["cls_token"][:, 0] + tensors["pos_embed"][:, 0]
    expected_1ED = torch.cat((first_1D[:, None], tensors["register_tokens"]), 1)
    torch.testing.assert_close(model.extra_tokens.detach(), expected_1ED)


@pytest.mark.parametrize(("extra", "key"), [(1, "reg_token"), (4, "reg_token"), (2, "cls_token")])
def test_another_number_than_the_files_is_refused_with_the_number(extra: int, key: str) -> None:
    tensors = vit() | ({"reg_token": torch.zeros(1, 4, D)} if key == "reg_token" else {})
    found = 5 if key == "reg_token" else 1
    with pytest.raises(InputError, match=rf"{found} tokens beside the grid \(.*{key}\).*extra_tokens: {found}, or 0"):
        load_timm(fresh(extra=extra), tensors)


def test_a_file_without_any_is_refused_where_the_model_has_some() -> None:
    tensors = vit(extra=0)
    del tensors["cls_token"]
    with pytest.raises(InputError, match=r"0 tokens beside the grid \(no class token\), the model 1.*extra_tokens: 0$"):
        load_timm(fresh(extra=1), tensors)


def test_blocks_run_on_them_and_on_the_grid_as_on_one_sequence() -> None:
    model = models.model(models.card("dense", depth=3, extra=2))
    assert model.extra_tokens is not None
    with torch.no_grad():
        x_BND = model.embed(models.images(2))[0]
        x_BND = torch.cat((model.extra_tokens.expand(2, -1, -1), x_BND), 1)
        for block in model.blocks:
            x_BND = block(x_BND)
        expected_BND = model.norm(x_BND)[:, 2:]
        torch.testing.assert_close(model(models.images(2)).x_BND, expected_BND, rtol=1e-4, atol=1e-4)


def test_a_model_without_them_has_no_such_tensor_and_one_with_them_keeps_the_others_start() -> None:
    torch.manual_seed(1)
    without = fresh(extra=0).state_dict()
    with_two = fresh(extra=2).state_dict()
    assert set(with_two) - set(without) == {"extra_tokens"}
    assert all(torch.equal(value, with_two[key]) for key, value in without.items())


def test_a_checkpoint_keeps_them_at_any_size_and_starts_no_model_that_has_others(tmp_path: Path) -> None:
    card = models.card(depth=2, extra=2, first=1)
    model = models.model(card)
    save(tmp_path / "dense.safetensors", card, model.state_dict())
    found, _ = load(tmp_path / "dense.safetensors", (models.HEIGHT + 16, models.WIDTH))
    assert found.extra_tokens is not None and model.extra_tokens is not None
    assert torch.equal(found.extra_tokens, model.extra_tokens)
    start = copy.deepcopy(model)
    load_start(start, tmp_path / "dense.safetensors", models.STREET.names)
    with pytest.raises(InputError, match="has 2 extra tokens, the model 0: choose model.extra_tokens: 2"):
        load_start(models.model(models.card(depth=2, first=1)), tmp_path / "dense.safetensors", models.STREET.names)


def count_rows(model: torch.nn.Module, seen: list[int]) -> None:
    def note(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].shape[-2])

    for block in model.blocks:  # type: ignore[union-attr]
        block.attn.register_forward_pre_hook(note)


def test_they_are_rows_of_every_block_beside_the_counts_of_a_bucket() -> None:
    model, seen = models.model(models.card("svit", depth=4, extra=2)), list[int]()
    count_rows(model, seen)
    with torch.no_grad():
        state = model.trunk(torch.from_numpy(models.frames(1)[0]))
        assert state[0].shape == (2 + models.N, D)
        model.tail(*state, (14, 6, models.N))
    assert seen == [models.N + 2, 16, 8, models.N + 2]
