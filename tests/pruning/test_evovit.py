"""Evo-ViT against its paper: the moving average of received attention, the representative token, the slow update."""

from typing import Any

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.evovit import EvoViT
from edgeprune.pruning.received import received
from edgeprune.pruning.selection import select_none, select_top
from tests import models


def evovit(**options: Any) -> tuple[Segmenter, EvoViT]:
    model = models.model(models.card("evovit", **options))
    assert isinstance(model.policy, EvoViT)
    return model, model.policy


def slow(model: Segmenter, counts: list[int], alpha: float) -> tuple[Tensor, list[float], list[set[int]]]:
    """One frame, token by token: the tokens, the averages, and what each block kept."""
    grid = list(model.embed(models.images(1))[0][0])
    average: list[float] = []
    kept_G: list[set[int]] = []
    for index, block in enumerate(model.blocks):
        gate = index - model.policy.gated[0]
        count = counts[gate] if gate >= 0 else models.N
        ranked = sorted(range(models.N), key=lambda cell: -average[cell] if average else 0)
        kept, rest = ranked[:count], ranked[count:]
        rows = [grid[cell] for cell in kept]
        if rest:
            whole = sum(average[cell] for cell in rest)
            representative_D = sum(average[cell] / whole * grid[cell] for cell in rest)
            assert isinstance(representative_D, Tensor)
            rows.append(representative_D)
        rows_MD = torch.stack(rows)
        attention = received(block, rows_MD).tolist()[:count]
        held = sum(average[cell] for cell in kept) if average else 1.0
        attention = [value / sum(attention) * held for value in attention]
        out_MD = block(rows_MD)
        for cell in rest:
            grid[cell] = grid[cell] + (out_MD[-1] - rows_MD[-1])
        old = average or attention
        average = average or [0.0] * models.N
        for row, cell in enumerate(kept):
            grid[cell] = out_MD[row]
            before = old[cell] if old is average else old[row]
            average[cell] = alpha * before + (1 - alpha) * attention[row]
        if gate >= 0:
            kept_G.append(set(kept))
    return torch.stack(grid), average, kept_G


@pytest.mark.parametrize("alpha", [0.5, 0.0, 0.9])
@pytest.mark.parametrize("counts", [[12, 12, 12], [20, 6, 13], [24, 1, 24], [24, 24, 24]])
def test_both_forms_are_the_slow_reference(counts: list[int], alpha: float) -> None:
    model, policy = evovit(momentum=alpha)
    with torch.no_grad():
        expected_ND, _, kept_G = slow(model, counts, alpha)
        x_BND, _, view = model.embed(models.images(1))
        masked = policy.masked(list(model.blocks), x_BND, view, select_top(policy.schedule.candidates(counts)))
        x_ND, scores_N = policy.trunk(list(model.blocks[:1]), x_BND[0], view)
        gathered = policy.gathered(list(model.blocks[1:]), x_ND, counts, scores_N)
    assert [set(keep_BN[0].nonzero()[:, 0].tolist()) for keep_BN in masked.keep_GBN] == kept_G
    torch.testing.assert_close(masked.x_BND[0], expected_ND, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(gathered.x_ND, expected_ND, rtol=1e-3, atol=1e-3)


def test_the_scores_are_shares_of_one_attention_whatever_was_computed() -> None:
    model, policy = evovit()
    seen: list[Tensor] = []

    def select(gate: int, scores_BN: Tensor) -> Tensor:
        seen.append(scores_BN)
        return select_top(policy.schedule.candidates([14, 9, 5]))(gate, scores_BN)

    with torch.no_grad():
        model(models.images(3), select)
    for scores_BN in seen:
        assert (scores_BN > 0).all()
        torch.testing.assert_close(scores_BN.sum(-1), torch.ones(3))
    # what a block did not compute holds its share
    chosen_BN = select_top(policy.schedule.candidates([14]))(0, seen[0]) > 0.5
    assert torch.equal(seen[0][~chosen_BN], seen[1][~chosen_BN]) and not (seen[0] == seen[1])[chosen_BN].all()


def test_the_trunks_scores_average_over_all_its_blocks() -> None:
    model, policy = evovit(first=2)
    with torch.no_grad():
        x_BND, _, view = model.embed(models.images(1))
        _, scores_N = policy.trunk(list(model.blocks[:2]), x_BND[0], view)
        first_N = received(model.blocks[0], x_BND[0])
        second_N = received(model.blocks[1], model.blocks[0](x_BND[0]))
    torch.testing.assert_close(scores_N, 0.5 * first_N + 0.5 * second_N)


def test_tokens_come_back_and_none_stands_still() -> None:
    model, policy = evovit()
    x_BND = model.embed(models.images(1))[0]
    half, other = ([float((cell < 12) == first) for cell in range(models.N)] for first in (True, False))

    def select(gate: int, scores_BN: Tensor) -> Tensor:
        return torch.tensor((half, other, half)[gate]).expand_as(scores_BN)

    with torch.no_grad():
        start_BND = model.blocks[0](x_BND)
        one_BND = policy.masked([*model.blocks[:2]], x_BND, models.VIEW, select).x_BND
        two_BND = policy.masked([*model.blocks[:3]], x_BND, models.VIEW, select).x_BND
    slow_ND = (one_BND - start_BND)[0, 12:]
    torch.testing.assert_close(slow_ND, slow_ND[:1].expand_as(slow_ND), rtol=1e-3, atol=1e-4)  # all the same update
    assert slow_ND.abs().max() > 1e-2
    fast_ND = (two_BND - one_BND)[0, 12:]
    assert (fast_ND - fast_ND[:1])[1:].abs().amax(-1).min() > 1e-2  # back in the block, each its own


def test_the_representative_alone_moves_all_where_none_is_kept() -> None:
    model, policy = evovit()
    x_BND = model.embed(models.images(2))[0]
    with torch.no_grad():
        moved_BND = policy.masked(list(model.blocks), x_BND, models.VIEW, select_none).x_BND - model.blocks[0](x_BND)
    torch.testing.assert_close(moved_BND, moved_BND[:, :1].expand_as(moved_BND), rtol=1e-3, atol=1e-3)


def test_the_papers_schedule_and_what_is_refused() -> None:
    shape = Shape(192, 12, (24, 32), 11)
    made = make_policy(PolicySpec(name="evovit"), shape)
    assert made.gated == tuple(range(4, 12)) and made.schedule.target_counts == (384,) * 8
    two = make_policy(PolicySpec(name="evovit", options={"keep": [0.5, 0.25]}), shape)
    assert two.schedule.target_shares == (0.5,) * 4 + (0.25,) * 4
    with pytest.raises(InputError, match="first=12 leaves no block to gate"):
        make_policy(PolicySpec(name="evovit", options={"first": 12}), shape)
    with pytest.raises(InputError, match="policy evovit: momentum"):
        make_policy(PolicySpec(name="evovit", options={"momentum": 1.0}), shape)
