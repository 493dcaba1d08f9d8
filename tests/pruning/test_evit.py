"""EViT against its paper: the attention that tokens receive, the fused token, what the head gets of the others."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.methods.evit import EViT
from edgeprune.pruning.received import received
from edgeprune.pruning.selection import select_all, select_none, select_top
from tests import models

PRUNED = ["preserved", "fused"]


def evit(**options: Any) -> tuple[Segmenter, EViT]:
    model = models.model(models.card("evit", **options))
    assert isinstance(model.policy, EViT)
    return model, model.policy


def slow_received(model: Segmenter, index: int, x_ND: Tensor, there: list[int]) -> list[float]:
    """sum over heads h and queries i of softmax_j(q_hi k_hj / 8), over their number: each key, each query, each head."""
    block = models.block(model, index)
    qkv = block.attn.qkv(block.norm1(x_ND)).double().numpy()
    total = np.zeros(len(x_ND))
    for head in range(3):
        q, k = (qkv[:, part * 192 + head * 64 : part * 192 + (head + 1) * 64] for part in (0, 1))
        for query in there:
            exps = np.array([np.exp(q[query] @ k[key] / 8) if key in there else 0.0 for key in range(len(x_ND))])
            total += exps / exps.sum()
    return (total / (3 * len(there))).tolist()


def slow(model: Segmenter, image_3HW: Tensor, counts: list[int], pruned: str) -> Tensor:
    """One frame, token by token: those that remain are a list, the fused one is beside it or not yet there."""
    gated = model.policy.gated
    x_ND = model.embed(image_3HW[None])[0][0]
    grid, left, fused, attention = list(x_ND), list(range(models.N)), None, [0.0]
    for index, block in enumerate(model.blocks):
        if index in gated and counts[gated.index(index)] < len(left):
            ranked = sorted(range(len(left)), key=lambda row: -attention[row])
            stay, leave = ranked[: counts[gated.index(index)]], ranked[counts[gated.index(index)] :]
            total = torch.zeros(192) if fused is None else attention[-1] * fused
            for row in leave:
                total = total + attention[row] * grid[left[row]]
            left, fused = [left[row] for row in stay], total
        rows_MD = torch.stack([grid[cell] for cell in left] + ([] if fused is None else [fused]))
        attention = slow_received(model, index, rows_MD, list(range(len(rows_MD))))
        out_MD = block(rows_MD)
        for row, cell in enumerate(left):
            grid[cell] = out_MD[row]
        fused = None if fused is None else out_MD[-1]
    if pruned == "fused" and fused is not None:
        grid = [grid[cell] if cell in left else fused for cell in range(models.N)]
    return torch.stack(grid)


@pytest.mark.parametrize("pruned", PRUNED)
@pytest.mark.parametrize("counts", [[16, 12, 8], [20, 20, 1], [24, 9, 9], [24, 24, 24]])
def test_both_forms_are_the_slow_reference(pruned: str, counts: list[int]) -> None:
    model, policy = evit(pruned=pruned)
    images_B3HW = models.images(2)
    with torch.no_grad():
        x_BND, _, view = model.embed(images_B3HW)
        masked = policy.masked(list(model.blocks), x_BND, view, select_top(policy.schedule.candidates(counts)))
        for image in range(2):
            expected_ND = slow(model, images_B3HW[image], counts, pruned)
            x_ND, scores_N = policy.trunk(list(model.blocks[:1]), x_BND[image], view)
            gathered = policy.gathered(list(model.blocks[1:]), x_ND, counts, scores_N)
            torch.testing.assert_close(masked.x_BND[image], expected_ND, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(gathered.x_ND, expected_ND, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("there", [list(range(7)), [0, 2, 3, 6]])
def test_received_attention_is_the_mean_over_heads_and_queries_that_remain(there: list[int]) -> None:
    model, _ = evit()
    x_ND = torch.randn(7, 192, generator=torch.Generator().manual_seed(0))
    mask_N = torch.tensor([token in there for token in range(7)])
    with torch.no_grad():
        got_N = received(model.blocks[1], x_ND, None if mask_N.all() else mask_N)
        expected = slow_received(model, 1, x_ND, there)
    assert got_N.tolist() == pytest.approx(expected, rel=1e-4)
    assert got_N.sum().item() == pytest.approx(1.0, rel=1e-5)


def test_an_image_that_loses_nothing_has_no_fused_token() -> None:
    """Thresholds take from one image and leave its neighbour whole, which then is the dense model's."""
    model, policy = evit(pruned="fused")
    x_BND = model.embed(models.images(2))[0]

    def select(gate: int, scores_BN: Tensor) -> Tensor:
        return torch.stack(
            (select_all(gate, scores_BN[0]), select_top(policy.schedule.candidates([9, 7, 5]))(gate, scores_BN[1:])[0])
        )

    with torch.no_grad():
        mixed_BND = policy.masked(list(model.blocks), x_BND, models.VIEW, select).x_BND
        dense_BND = policy.masked(list(model.blocks), x_BND, models.VIEW, select_all).x_BND
        cut_BND = policy.masked(
            list(model.blocks), x_BND, models.VIEW, select_top(policy.schedule.candidates([9, 7, 5]))
        ).x_BND
    torch.testing.assert_close(mixed_BND[0], dense_BND[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixed_BND[1], cut_BND[1], rtol=1e-4, atol=1e-4)


def test_the_fused_token_alone_carries_on_where_all_leave() -> None:
    model, policy = evit(pruned="fused")
    x_BND = model.embed(models.images(2))[0]
    with torch.no_grad():
        x_BND = policy.masked(list(model.blocks), x_BND, models.VIEW, select_none).x_BND
    assert x_BND.isfinite().all() and torch.equal(x_BND, x_BND[:, :1].expand_as(x_BND))
    assert not torch.equal(x_BND[0], x_BND[1])


def test_what_left_speaks_through_the_fused_token() -> None:
    """A kept token's features have a gradient at every token before the first stage."""
    model, policy = evit()
    outputs: list[Tensor] = []

    def watch(block: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    def select(gate: int, scores_BN: Tensor) -> Tensor:
        return (torch.arange(models.N) < 4).float().expand_as(scores_BN)

    model.blocks[0].register_forward_hook(watch)
    x_BND = policy.masked(list(model.blocks[:2]), model.embed(models.images(1))[0], models.VIEW, select).x_BND
    x_BND[0, 0].square().sum().backward()
    gradient_BND = outputs[0].grad
    assert gradient_BND is not None and (gradient_BND[0].abs().sum(-1) > 0).all()
