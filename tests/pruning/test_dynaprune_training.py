"""DynaPrune's regulariser, straight-through gradients and Gumbel noise; and where the paper is mended."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeprune.pruning.reconstruct import Learned
from edgeprune.pruning.selection import select_top
from tests import models
from tests.pruning.dynapruned import HALF, VARIANTS, dynaprune, fixed, policy, run, undecided


def test_the_published_regulariser_and_its_degenerate_case() -> None:
    """lambda * sum over stages of (mean s - r)^2: every s = r satisfies it, whatever is kept."""
    half_BN = torch.full((2, 4), 0.5)
    importances, chosen = [half_BN, half_BN / 2], [torch.ones(2, 4), torch.ones(2, 4)]
    literal = policy(regulariser="literal", keep=[0.5, 0.25], weight=4.0)
    assert literal.loss(importances, chosen).item() == 0
    importances[0] = torch.tensor([[1.0, 1, 1, 1], [0.5, 0.5, 0, 0]])  # the mean is the batch's: 5/8
    assert literal.loss(importances, chosen).item() == pytest.approx(4 * (5 / 8 - 1 / 2) ** 2)


def test_the_repaired_regulariser_holds_what_is_kept_too() -> None:
    repaired = policy(keep=[0.5, 0.25], weight=4.0)
    importances = [torch.full((2, 4), 0.5), torch.full((2, 4), 0.5)]
    chosen = [torch.ones(2, 4), torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0]])]
    assert repaired.loss(importances, chosen).item() == pytest.approx(4 * ((1 - 0.5) ** 2 + (0.5 - 0.25) ** 2))


def test_tokens_that_left_count_as_not_kept_in_the_regulariser() -> None:
    """r is a share of the grid: with a quarter left and s near one half, the later stages' mean is about an eighth."""
    model, made = dynaprune(regulariser="literal", keep=[0.25, 0.25, 0.25], weight=1.0)
    with torch.no_grad():
        for parameter in made.importance.parameters():
            parameter.zero_()
        loss = run(model, select_top(made.schedule.candidates([6, 6, 6]))).loss
    assert loss.item() == pytest.approx((0.5 - 0.25) ** 2 + 2 * (0.125 - 0.25) ** 2)


@pytest.mark.parametrize("options", [*VARIANTS, {"deferred": False}, {"regulariser": "literal"}])
@pytest.mark.parametrize("source", ["task", "loss"])
def test_gradients_reach_every_stage(options: dict[str, Any], source: str) -> None:
    model, made = dynaprune(**options)
    undecided(made)
    torch.manual_seed(0)
    prediction = model.train()(models.images(2))
    (prediction.raw.square().mean() if source == "task" else prediction.masked.loss).backward()
    for importance in made.importance:
        assert all(float(parameter.grad.abs().sum()) > 0 for parameter in importance.parameters())  # type: ignore[union-attr]
    if source == "task" and made.reconstruction is not None:
        for parameter in made.reconstruction.parameters():
            assert parameter.grad is not None
        tau = dict(made.reconstruction.named_parameters()).get("tau")
        assert tau is None or (tau.grad is not None and tau.grad != 0)


def test_a_kept_tokens_gradient_is_what_it_adds_where_others_are_rebuilt() -> None:
    """d f(p) / d M_i = w(p, p_i) (h_i - f(p)), against the derivative of the published sum with weights multiplied by M."""
    torch.manual_seed(0)
    learned = Learned((2, 3)).double()
    h_BND, pull_BND = torch.randn(2, 1, 6, 5, dtype=torch.float64)
    keep_BN = torch.tensor([[1.0, 0, 1, 1, 0, 0]], dtype=torch.float64, requires_grad=True)
    (learned.masked(h_BND, keep_BN, (2, 3)) * pull_BND).sum().backward()
    assert keep_BN.grad is not None
    table_NN = learned.table((2, 3)).detach()
    kept = [0, 2, 3]
    for i in range(6):
        expected = 0.0
        for p in range(6):
            weights = {j: math.exp(table_NN[p, j]) for j in kept}
            f_D = sum(weights[j] * h_BND[0, j] for j in kept) / sum(weights.values())
            if i in kept:
                worth = weights[i] / sum(weights.values())
                expected += float((worth * (h_BND[0, i] - f_D) * pull_BND[0, p]).sum())
        assert keep_BN.grad[0, i].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("smooth", [False, True])
def test_a_token_that_left_pulls_at_its_stage_by_what_its_reconstruction_lacks(smooth: bool) -> None:
    """d out(p) / d M_p = h_p - f(p)."""
    _, made = dynaprune(smooth=smooth)
    assert isinstance(made.reconstruction, Learned)
    h_BND, pull_BND = torch.randn(2, 1, models.N, 192, generator=torch.Generator().manual_seed(0))
    there_BN = torch.tensor([HALF], requires_grad=True)
    (made._rebuild(made.reconstruction, h_BND, there_BN, models.GRID) * pull_BND).sum().backward()
    assert there_BN.grad is not None
    with torch.no_grad():
        f_BND = made.reconstruction.masked(h_BND, there_BN, models.GRID)
        expected_BN = ((h_BND - f_BND) * pull_BND).sum(-1)
    torch.testing.assert_close(there_BN.grad[:, 12:], expected_BN[:, 12:], rtol=1e-4, atol=1e-4)


def test_straight_through_values_are_those_of_the_hard_mask() -> None:
    """The value-0 biases and factors of one change nothing but gradients."""
    for options in VARIANTS:
        model, _ = dynaprune(**options)

        def soft(stage: int, scores_BN: Tensor) -> Tensor:
            soft_BN = torch.sigmoid(scores_BN)
            return torch.tensor(HALF) + (soft_BN - soft_BN.detach())

        straight_BND = run(model, soft).x_BND
        assert straight_BND.requires_grad
        torch.testing.assert_close(straight_BND, run(model, fixed(HALF, HALF, HALF)).x_BND, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("score", [-1.5, 0.8])
def test_sampling_keeps_with_the_importance_as_probability(score: float) -> None:
    torch.manual_seed(0)
    keep_BN = policy().options.sample(torch.full((10, 2000), score), 1.0)
    assert set(keep_BN.unique().tolist()) == {0.0, 1.0}
    assert keep_BN.mean().item() == pytest.approx(torch.sigmoid(torch.tensor(score)).item(), abs=0.02)


def test_annealed_stages_end_without_noise() -> None:
    made = policy(anneal=0.5)
    scores_BN = torch.linspace(-2, 2, 4000).expand(5, -1)
    torch.manual_seed(0)
    wrong = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        wrong.append(((made.options.sample(scores_BN, progress) > 0.5) != (scores_BN > 0)).float().mean().item())
    assert wrong[0] > 1.5 * wrong[1] > 0.1
    assert wrong[2] == wrong[3] == 0


def test_a_share_of_the_batch_keeps_every_token_and_is_left_out_of_the_regulariser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, made = dynaprune(full=0.5)
    dense_BKHW = model(models.images(4), fixed(*[[1.0] * models.N] * 3)).raw
    seen: list[Tensor] = []
    plain = made.loss

    def watched(importances: Sequence[Tensor], chosen: Sequence[Tensor]) -> Tensor:
        seen.extend((*importances, *chosen))
        return plain(importances, chosen)

    monkeypatch.setattr(made, "loss", watched)
    torch.manual_seed(0)
    model.policy.train()
    prediction = model(models.images(4))
    for keep_BN in prediction.masked.keep_GBN:
        assert (keep_BN[:2] == 1).all() and (keep_BN[2:] == 0).any()
    torch.testing.assert_close(prediction.raw[:2], dense_BKHW[:2], rtol=1e-3, atol=1e-3)
    assert [part_BN.shape for part_BN in seen] == [(2, models.N)] * 6
    for mask_BN, keep_BN in zip(seen[3:], prediction.masked.keep_GBN, strict=True):
        assert torch.equal(mask_BN, keep_BN[2:])
