"""Equalised channels: the function stays, for every policy that is trained, and INT8 changes it less."""

import copy
from typing import cast

import pytest
import torch
from torch import Tensor

from edgeprune.model.blocks import Block
from edgeprune.model.network import Prediction
from edgeprune.model.policy import Select
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import select_all
from edgeprune.quantize.equalise import LEAST, equalise, factors
from edgeprune.quantize.linear import QUANTIZED, set_quantized
from edgeprune.quantize.ranges import apply_ranges, measure_ranges
from tests import models


def blocks(model: Segmenter) -> list[Block]:
    return cast("list[Block]", list(model.blocks))


def with_large_channels(policy: str) -> Segmenter:
    """A model of whose LayerNorms and values one channel is fifty times larger than it was, and read fifty times less."""
    torch.manual_seed(0)
    model = models.model(models.card(policy, depth=4, quantized=True))
    width = model.pos_embed.shape[-1]
    with torch.no_grad():
        for block in blocks(model):
            block.norm1.weight[3] *= 50
            block.norm1.bias[3] *= 50
            block.attn.qkv.weight[:, 3] /= 50
            block.attn.qkv.weight[2 * width + 5] *= 50
            block.attn.qkv.bias[2 * width + 5] *= 50
            block.attn.proj.weight[:, 5] /= 50
    return model


def logits(model: Segmenter, select: Select | None = None) -> Tensor:
    with torch.no_grad():
        prediction: Prediction = model(models.images(4), select)
    return prediction.raw


@pytest.mark.parametrize("policy", ["dense", "svit", "cts-svit", "dynaprune", "ats", "tome"])
def test_in_float_the_network_gives_what_it_gave(policy: str) -> None:
    model = with_large_channels(policy)
    set_quantized(model, ())
    before, weight = logits(model), blocks(model)[0].attn.qkv.weight.clone()
    equalise(model, lambda: model(models.images(4)))
    assert torch.allclose(logits(model), before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
    assert not torch.equal(blocks(model)[0].attn.qkv.weight, weight)


def test_int8_changes_the_network_less() -> None:
    model = with_large_channels("dense")
    set_quantized(model, ())
    exact = logits(model, select_all)
    equalised = copy.deepcopy(model)
    equalise(equalised, lambda: equalised(models.images(4)))
    errors = []
    for each in (model, equalised):
        apply_ranges(each, measure_ranges(each, lambda each=each: each(models.images(4)), 100))  # type: ignore[misc]
        set_quantized(each, QUANTIZED)
        errors.append(float((logits(each, select_all) - exact).square().mean()))
    assert errors[1] < errors[0] / 4


def test_where_values_are_scored_by_they_stay() -> None:
    model = with_large_channels("ats")
    width = model.pos_embed.shape[-1]
    proj, value = blocks(model)[0].attn.proj.weight.clone(), blocks(model)[0].attn.qkv.bias[2 * width :].clone()
    equalise(model, lambda: model(models.images(2)))
    assert torch.equal(blocks(model)[0].attn.proj.weight, proj)
    assert torch.equal(blocks(model)[0].attn.qkv.bias[2 * width :], value)


def test_blocks_before_the_first_stay() -> None:
    model = with_large_channels("dense")
    before = [{name: value.clone() for name, value in block.state_dict().items()} for block in blocks(model)]
    equalise(model, lambda: model(models.images(2)), 2)
    same = [
        all(torch.equal(value, then[name]) for name, value in block.state_dict().items())
        for block, then in zip(blocks(model), before, strict=True)
    ]
    assert same == [True, True, False, False]


def test_factors_are_those_of_the_paper_and_bounded() -> None:
    largest_D, weight_FD = torch.tensor([8.0, 2.0, 0.0]), torch.tensor([[0.5, -2.0, 1.0], [0.25, 1.0, 0.0]])
    factor_D = factors(largest_D, weight_FD)
    assert float(factor_D[0] / factor_D[1]) == pytest.approx((8 / 0.5) ** 0.5 / (2 / 2) ** 0.5)
    assert float(factor_D[2] / factor_D[1]) == pytest.approx((8 * LEAST) ** 0.5 / 1.0, rel=1e-3)
    assert float(factor_D.log().mean()) == pytest.approx(0, abs=1e-5)
