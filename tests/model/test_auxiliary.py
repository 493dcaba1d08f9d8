"""Auxiliary heads see what a block is given, under every policy, and nothing of them is in what is used later."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgeprune.model.auxiliary import AuxiliaryHeads
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.methods import POLICIES
from tests import models


def with_heads(blocks: list[int], policy: str = "dense", **kinds: Any) -> Segmenter:
    """A model in training mode with heads of its own weights, and norms that a batch does not move."""
    model = models.model(models.card(policy, **kinds))
    torch.manual_seed(1)
    model.auxiliary = AuxiliaryHeads(blocks, 192, len(models.STREET.names)).eval()
    model.training = True
    return model


@pytest.mark.parametrize("extra", [0, 2])
def test_a_head_is_a_small_fcn_on_the_tokens_after_its_blocks(extra: int) -> None:
    model, images_B3HW = with_heads([1, 3], extra=extra), models.images(2)
    with torch.no_grad():
        found = model(images_B3HW).auxiliary
        x_BND, _, _ = model.embed(images_B3HW)
        if model.extra_tokens is not None:
            x_BND = torch.cat((model.extra_tokens.expand(2, -1, -1), x_BND), 1)
        assert model.auxiliary is not None
        for count, block in enumerate(model.blocks[:3], start=1):
            x_BND = block(x_BND)
            if count not in (1, 3):
                continue
            index = [1, 3].index(count)
            of = dict(model.auxiliary.heads[index].named_parameters())
            normal_BND = F.layer_norm(x_BND[:, extra:], (192,), of["norm.weight"], of["norm.bias"], 1e-6)
            map_BCHW = F.conv2d(
                normal_BND.transpose(1, 2).reshape(2, 192, *models.GRID), of["smooth.0.weight"], None, 1, 1
            )
            # a new BatchNorm in evaluation mode
            map_BCHW = (map_BCHW / (1 + 1e-5) ** 0.5).relu()
            expected = F.conv2d(map_BCHW, of["classify.weight"], of["classify.bias"])
            torch.testing.assert_close(found[index], expected)
            assert expected.shape == (2, 11, *models.GRID)


class Seen(nn.Module):
    """A head that gives back what it sees."""

    def forward(self, x_BMD: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        return x_BMD


@pytest.mark.parametrize("policy", POLICIES)
def test_under_every_policy_it_sees_the_grid_or_the_policy_says_that_it_does_not(policy: str) -> None:
    """Blocks that change nothing leave a cell its own token, or that of the cells that it is merged with."""
    model, images_B3HW = with_heads([3], policy), models.images(2)
    with torch.no_grad():
        for block in model.blocks:
            for name in ("attn.proj", "mlp.fc2"):
                for parameter in block.get_submodule(name).parameters():
                    parameter.zero_()
        assert model.auxiliary is not None
        model.auxiliary.heads[0] = Seen()
        prediction = model(images_B3HW)
        x_BND, _, _ = model.embed(images_B3HW)
    group_BN = torch.arange(models.N).repeat(2, 1)
    if prediction.masked.group_GBN:
        group_BN = prediction.masked.group_GBN[model.policy.schedule.decided(3) - 1]
    alike_BNN = (group_BN[:, :, None] == group_BN[:, None]).float()
    expected_BND = alike_BNN @ x_BND / alike_BNN.sum(-1, keepdim=True)
    (seen_BMD,) = prediction.auxiliary
    sees_the_grid = seen_BMD.shape == x_BND.shape and torch.allclose(seen_BMD, expected_BND, atol=1e-5)
    assert sees_the_grid == model.policy.keeps_grid


def test_the_heads_are_in_no_answer_of_a_model_in_use() -> None:
    model, images_B3HW = with_heads([2], "svit"), models.images(2)
    with torch.no_grad():
        model.eval()
        assert model(images_B3HW).auxiliary == []
        raw = model(images_B3HW).raw
        model.auxiliary = None
        assert torch.equal(model(images_B3HW).raw, raw)
    assert not any(key.startswith("auxiliary") for key in model.state_dict())
