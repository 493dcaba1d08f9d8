"""DynamicViT against its paper: the gate's two halves, decisions that multiply, attention masking, the ratio loss."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.methods.dynamicvit import DynamicViT, Gate
from edgeprune.pruning.selection import select_all, select_top
from tests import models

PRUNED = ["removed", "preserved"]


def dynamicvit(**options: Any) -> tuple[Segmenter, DynamicViT]:
    model = models.model(models.card("dynamicvit", **options))
    assert isinstance(model.policy, DynamicViT)
    return model, model.policy


def undecided(policy: DynamicViT) -> None:
    """Weights of unit gain: gates that waver. Those of `models.model` are all but sure of everything."""
    with torch.no_grad():
        for parameter in policy.gates.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.25)


def slow(model: Segmenter, counts: list[int], pruned: str) -> Tensor:
    """One frame, token by token: those that remain are a list, the others a picture of the grid."""
    policy = model.policy
    assert isinstance(policy, DynamicViT)
    x_ND = model.embed(models.images(1))[0][0]
    grid, left = list(x_ND), list(range(models.N))
    for index, block in enumerate(model.blocks):
        if index in policy.gated:
            gate = policy.gated.index(index)
            scores = policy.gates[gate](torch.stack([grid[cell] for cell in left])).tolist()
            ranked = sorted(zip(scores, left, strict=True), reverse=True)
            left = [cell for _, cell in ranked[: counts[gate]]]
        for cell, token_D in zip(left, block(torch.stack([grid[cell] for cell in left])), strict=True):
            grid[cell] = token_D
    if pruned == "removed":
        assert policy.empty_1D is not None
        grid = [grid[cell] if cell in left else policy.empty_1D[0] for cell in range(models.N)]
    return torch.stack(grid)


@pytest.mark.parametrize("pruned", PRUNED)
@pytest.mark.parametrize("counts", [[16, 12, 8], [20, 20, 1], [24, 9, 9]])
def test_both_forms_are_the_slow_reference(pruned: str, counts: list[int]) -> None:
    model, policy = dynamicvit(pruned=pruned)
    with torch.no_grad():
        expected_ND = slow(model, counts, pruned)
        x_BND, _, view = model.embed(models.images(1))
        masked = policy.masked(list(model.blocks), x_BND, view, select_top(policy.schedule.candidates(counts)))
        x_ND, scores_N = policy.trunk(list(model.blocks[:1]), x_BND[0], view)
        assert scores_N is not None
        gathered = policy.gathered(list(model.blocks[1:]), x_ND, counts, scores_N)
    torch.testing.assert_close(masked.x_BND[0], expected_ND, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(gathered.x_ND, expected_ND, rtol=1e-3, atol=1e-3)


def test_the_gate_sees_a_token_and_the_mean_of_those_that_remain() -> None:
    """z_i = [local_i, sum_j D_j global_j / sum_j D_j], in numpy."""
    torch.manual_seed(0)
    gate = Gate(64).double()
    x_ND = torch.randn(6, 64, dtype=torch.float64)
    there = [1, 0, 1, 1, 0, 0]

    def linear(x: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
        return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()

    def gelu(x: np.ndarray) -> np.ndarray:
        return np.asarray(torch.nn.functional.gelu(torch.from_numpy(x)))

    normal = x_ND.numpy()
    normal = (normal - normal.mean(-1, keepdims=True)) / np.sqrt(normal.var(-1, keepdims=True) + 1e-6)
    z = gelu(linear(normal, gate.fc1))
    mean = sum(z[token, 32:] for token in range(6) if there[token]) / sum(there)
    for token in range(6):
        hidden = gelu(linear(np.concatenate((z[token, :32], mean)), gate.fc2))
        keep, drop = linear(gelu(linear(hidden, gate.fc3)), gate.fc4)
        got_N = gate(x_ND[None], torch.tensor([there]))[0]
        assert got_N[token].item() == pytest.approx(keep - drop, rel=1e-5)
    assert [tuple(layer.weight.shape) for layer in (gate.fc1, gate.fc2, gate.fc3, gate.fc4)] == [
        (64, 64),
        (32, 64),
        (16, 32),
        (2, 16),
    ]


def test_ratio_loss_holds_the_rate_of_each_image() -> None:
    _, policy = dynamicvit(keep=[0.5, 0.25], weight=2.0)
    keeps = [torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]]), torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0]])]
    gaps = [(1 - 0.5) ** 2, (0 - 0.5) ** 2, (0.25 - 0.25) ** 2, (0.5 - 0.25) ** 2]
    assert policy.loss(keeps).item() == pytest.approx(2.0 * sum(gaps) / (2 * 2))


@pytest.mark.parametrize("pruned", PRUNED)
@pytest.mark.parametrize("source", ["task", "loss"])
def test_gradients_reach_every_gate(pruned: str, source: str) -> None:
    model, policy = dynamicvit(pruned=pruned)
    undecided(policy)
    torch.manual_seed(0)
    prediction = model.train()(models.images(2))
    (prediction.raw.square().mean() if source == "task" else prediction.masked.loss).backward()
    for gate in policy.gates:
        assert all(float(parameter.grad.abs().sum()) > 0 for parameter in gate.parameters())  # type: ignore[union-attr]


def test_a_kept_keys_gradient_is_that_of_the_papers_masked_softmax() -> None:
    """exp(P_ij) D_j / sum_k exp(P_ik) D_k, against the bias of value 0."""
    attention = models.block(dynamicvit()[0], 1).attn.double()
    torch.manual_seed(0)
    x_1ND = torch.randn(1, 6, 192, dtype=torch.float64)
    there = torch.tensor([[1.0, 1, 0, 1, 0, 1]], dtype=torch.float64)
    paper_BN, ours_BN = there.clone().requires_grad_(), there.clone().requires_grad_()
    weights_BHNN = attention.weights(x_1ND) * paper_BN[:, None, None, :]
    weights_BHNN = weights_BHNN / weights_BHNN.sum(-1, keepdim=True)
    expected_1ND = attention.proj((weights_BHNN @ attention.values(x_1ND)).transpose(1, 2).reshape(1, 6, 192))
    got_1ND = attention(x_1ND, there > 0.5, ours_BN - ours_BN.detach())
    torch.testing.assert_close(got_1ND, expected_1ND)
    for y_1ND in (expected_1ND, got_1ND):
        y_1ND.square().sum().backward()
    assert paper_BN.grad is not None and ours_BN.grad is not None
    torch.testing.assert_close(ours_BN.grad[there > 0.5], paper_BN.grad[there > 0.5])


def test_sampled_decisions_multiply() -> None:
    model, policy = dynamicvit()
    undecided(policy)
    torch.manual_seed(0)
    keeps = model.train()(models.images(4)).masked.keep_GBN
    for before_BN, after_BN in pairwise(keeps):
        assert (after_BN <= before_BN).all() and after_BN.sum() < before_BN.sum()
    assert set(keeps[-1].unique().tolist()) == {0.0, 1.0}


def test_annealed_gates_end_without_noise() -> None:
    _, policy = dynamicvit(anneal=0.5)
    scores_BN = torch.linspace(-2, 2, 999).expand(5, -1)
    torch.manual_seed(0)
    assert not torch.equal(policy.options.sample(scores_BN, 0.1) > 0.5, scores_BN > 0)
    assert torch.equal(policy.options.sample(scores_BN, 0.5) > 0.5, scores_BN > 0)


def test_an_empty_cell_is_one_learned_token() -> None:
    model, policy = dynamicvit(pruned="removed")
    x_BND = model.embed(models.images(2))[0]
    masked = policy.masked(list(model.blocks), x_BND, models.VIEW, select_top(policy.schedule.candidates([12, 8, 5])))
    assert policy.empty_1D is not None
    empty_BN = (masked.x_BND == policy.empty_1D).all(-1)
    assert torch.equal(empty_BN, masked.keep_GBN[-1] == 0)
    assert not torch.equal(policy.masked(list(model.blocks), x_BND, models.VIEW, select_all).x_BND, masked.x_BND)
    assert "empty_1D" in policy.state_dict() and "empty_1D" not in dynamicvit()[1].state_dict()
