"""ATS against its paper: significance scores, inverse transform sampling, queries that go on over all keys."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.ats import ATS, sample, significance
from edgeprune.pruning.selection import select_none
from edgeprune.train.validation import best_tokens
from tests import models


def ats(**options: Any) -> tuple[Segmenter, ATS]:
    model = models.model(models.card("ats", **options))
    assert isinstance(model.policy, ATS)
    return model, model.policy


def slow_significance(model: Segmenter, index: int, x_ND: Tensor, there: list[int]) -> np.ndarray:
    """Each head, each query, each key; then divided by the sum."""
    block = models.block(model, index)
    qkv = block.attn.qkv(block.norm1(x_ND)).double().numpy()
    gives = np.zeros(len(x_ND))
    for head in range(3):
        q, k, v = (qkv[:, part * 192 + head * 64 : part * 192 + (head + 1) * 64] for part in range(3))
        for query in there:
            exps = {key: np.exp(q[query] @ k[key] / 8) for key in there}
            for key in there:
                gives[key] += exps[key] / sum(exps.values()) / len(there) * np.sqrt((v[key] ** 2).sum())
    return gives / gives.sum()


def slow_sample(scores: list[float], samples: int) -> set[int]:
    taken, total = set(), sum(scores)
    for number in range(samples):
        reached = 0.0
        for token, score in enumerate(scores):
            reached += score / total
            if reached >= (2 * number + 1) / (2 * samples):
                taken.add(token)
                break
    return taken


@pytest.mark.parametrize("there", [list(range(8)), [1, 2, 5, 7]])
def test_significance_is_received_attention_times_the_values_length(there: list[int]) -> None:
    model, _ = ats()
    x_ND = torch.randn(8, 192, generator=torch.Generator().manual_seed(0))
    mask_1N = torch.tensor([[token in there for token in range(8)]])
    with torch.no_grad():
        got_N = significance(model.blocks[1], x_ND[None], mask_1N)[0]
        expected_N = slow_significance(model, 1, x_ND, there)
    assert got_N.tolist() == pytest.approx(expected_N.tolist(), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("samples", [1, 3, 10, 24])
def test_samples_lie_at_even_quantiles_of_the_cumulative_sum(samples: int) -> None:
    scores_BN = torch.rand(4, 24, generator=torch.Generator().manual_seed(1)).pow(4)
    scores_BN[:, 20:] = 0  # gone
    keep_BN = sample(scores_BN / scores_BN.sum(-1, keepdim=True), samples)
    for keep_N, scores_N in zip(keep_BN, scores_BN, strict=True):
        assert set(keep_N.nonzero()[:, 0].tolist()) == slow_sample(scores_N.double().tolist(), samples)
    assert not keep_BN[:, 20:].any()


def test_a_token_sampled_twice_is_there_once() -> None:
    # at 1/8, 3/8, 5/8 and 7/8 of 0.05, 0.85, 0.9, 1: three times token 1, once token 2
    assert sample(torch.tensor([[0.05, 0.8, 0.05, 0.1]]), 4).tolist() == [[0, 1, 1, 0]]
    assert sample(torch.full((1, 4), 0.25), 4).tolist() == [[1, 1, 1, 1]]


def test_the_training_form_is_the_slow_reference() -> None:
    """Token by token: what is sampled goes on over the keys of all that were there; nobody comes back."""
    model, policy = ats()
    counts = policy.schedule.target_counts
    with torch.no_grad():
        x_BND = model.embed(models.images(2))[0]
        masked = policy.masked(list(model.blocks), x_BND, models.VIEW)
        for image in range(2):
            grid, left = list(x_BND[image]), list(range(models.N))
            for index, block in enumerate(model.blocks):
                rows_ND = torch.stack([grid[cell] for cell in left])
                out_ND, stay = block(rows_ND), list(range(len(left)))
                if index in policy.gated:
                    scores = slow_significance(model, index, rows_ND, stay).tolist()
                    stay = sorted(slow_sample(scores, counts[index - 1]))
                    assert [left[row] for row in stay] == masked.keep_GBN[index - 1][image].nonzero()[:, 0].tolist()
                for row in stay:
                    grid[left[row]] = out_ND[row]
                left = [left[row] for row in stay]
            torch.testing.assert_close(masked.x_BND[image], torch.stack(grid), rtol=1e-3, atol=1e-3)


def test_training_samples_as_evaluation_does() -> None:
    model, _ = ats()
    with torch.no_grad():
        keeps, trained = model(models.images(2)).masked.keep_GBN, model.train()(models.images(2)).masked
    # batch statistics of the head come after the policy
    assert all(torch.equal(one_BN, other_BN) for one_BN, other_BN in zip(keeps, trained.keep_GBN, strict=True))
    assert trained.loss == 0


def test_its_count_follows_the_frame() -> None:
    model, _ = ats()
    with torch.no_grad():
        counts_B = model(models.images(8)).masked.keep_GBN[0].sum(-1)
    assert len(set(counts_B.tolist())) > 1


def test_what_is_scored_is_what_it_samples_and_not_as_many_of_the_best() -> None:
    """Validation, `ablate` and `compare` would score another method otherwise: exactly K tokens of each image."""
    model, policy = ats()
    assert best_tokens(model) is None and policy.gated
    with torch.no_grad():
        scored = model(models.images(8), best_tokens(model)).masked.keep_GBN
        own = model(models.images(8)).masked.keep_GBN
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(scored, own, strict=True))
    assert best_tokens(models.model(models.card("svit"))) is not None


def test_an_image_of_which_nothing_is_kept_passes_unchanged() -> None:
    model, policy = ats()
    x_BND = model.embed(models.images(2))[0]
    masked = policy.masked(list(model.blocks), x_BND, models.VIEW, select_none)
    assert torch.equal(masked.x_BND, model.blocks[0](x_BND))
    masked.x_BND.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_it_has_no_inference_form_and_says_why() -> None:
    model, policy = ats()
    assert policy.not_exportable and "depends on the frame" in policy.not_exportable
    with pytest.raises(InputError, match="depends on the frame"):
        policy.gathered(list(model.blocks[1:]), torch.zeros(models.N, 192), [9, 9, 9], torch.zeros(models.N))
    with pytest.raises(InputError, match="depends on the frame"):
        model.trunk(torch.from_numpy(models.frames(1)[0]))


def test_the_papers_places_and_what_is_refused() -> None:
    shape = Shape(192, 12, (24, 32), 11)
    made = make_policy(PolicySpec(name="ats"), shape)
    assert made.gated == tuple(range(3, 12)) and made.schedule.target_shares == (0.7,) * 3 + (0.49,) * 3 + (0.343,) * 3
    with pytest.raises(InputError, match="first=12 leaves no block to gate"):
        make_policy(PolicySpec(name="ats", options={"first": 12}), shape)
