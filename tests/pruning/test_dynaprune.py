"""DynaPrune against its paper, token by token: importance with context, stages, deferral."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.methods.dynaprune import DynaPrune, Importance
from edgeprune.pruning.reconstruct import Learned, Nearest
from edgeprune.pruning.selection import select_top
from tests import models
from tests.pruning.dynapruned import HALF, VARIANTS, disturbed, dynaprune, fixed, policy, run, undecided

# ------------------------------------------------------------------------------------------- the paper's formulas, slowly


def logit_by_formula(importance: Importance, h_D: np.ndarray, context_D: np.ndarray, count: int) -> float:
    """log s - log(1 - s) of s = sigmoid(w^T [h || context / N]), with a LayerNorm on each half where it is not literal."""
    halves = [h_D, context_D / count]
    if importance.norms is not None:
        halves = []
        for values_D, norm in zip((h_D, context_D), importance.norms, strict=True):
            normal_D = (values_D - values_D.mean()) / math.sqrt(values_D.var() + 1e-6)
            halves.append(normal_D * norm.weight.detach().numpy() + norm.bias.detach().numpy())  # type: ignore[union-attr,operator]
    s = 1 / (1 + math.exp(-float(importance.w_1C.detach().numpy()[0] @ np.concatenate(halves))))
    return math.log(s) - math.log(1 - s)


def place(cell: int) -> tuple[int, int]:
    return divmod(cell, models.GRID[1])


def weight_by_formula(learned: Learned, p: int, p_i: int) -> float:
    """-||p - p_i|| / tau + phi(p - p_i)."""
    dy, dx = (a - b for a, b in zip(place(p), place(p_i), strict=True))
    distance = math.sqrt(dy**2 + dx**2)
    tau = math.log(1 + math.exp(learned.tau.item()))
    hidden = [
        sum(w * v for w, v in zip(row, (dy, dx, distance), strict=True)) + bias
        for row, bias in zip(learned.fc1.weight.tolist(), learned.fc1.bias.tolist(), strict=True)
    ]
    phi = learned.fc2.bias.item() + sum(
        w * h * 0.5 * (1 + math.erf(h / math.sqrt(2)))
        for w, h in zip(learned.fc2.weight[0].tolist(), hidden, strict=True)
    )
    return -distance / tau + phi


def rebuilt(policy: DynaPrune, cell: int, tokens: dict[int, Tensor]) -> Tensor:
    """f(p) from the tokens that remain, by cell."""
    if isinstance(policy.reconstruction, Nearest):
        away = {c: math.dist(place(cell), place(c)) for c in tokens}
        return tokens[min(sorted(tokens), key=lambda c: away[c])]
    assert isinstance(policy.reconstruction, Learned)
    arguments = {c: weight_by_formula(policy.reconstruction, cell, c) for c in tokens}
    most = max(arguments.values())
    total = sum(math.exp(a - most) for a in arguments.values())
    return torch.stack([math.exp(a - most) / total * tokens[c] for c, a in arguments.items()]).sum(0)


def slow(model: Segmenter, policy: DynaPrune, counts: list[int]) -> Tensor:
    """One frame, token by token: those that remain by their cell, those that left as they left."""
    x_ND, context_ND = model.embed(models.images(1))[0][0], torch.zeros(models.N, 192)
    tokens = {cell: x_ND[cell] for cell in range(models.N)}
    contexts = {cell: context_ND[cell] for cell in range(models.N)}
    left: dict[int, Tensor] = {}
    for index in range(len(model.blocks)):
        if index in policy.gated:
            stage = policy.gated.index(index)
            importance = policy.importance[stage]
            assert isinstance(importance, Importance)
            logits = {
                c: logit_by_formula(importance, tokens[c].numpy(), contexts[c].numpy(), len(tokens)) for c in tokens
            }
            stay = sorted(tokens, key=lambda c: -logits[c])[: counts[stage]]
            left |= {c: token_D for c, token_D in tokens.items() if c not in stay}
            tokens = {c: tokens[c] for c in stay}
        y_KD, context_KD = models.block(model, index).forward_with_context(torch.stack(list(tokens.values())))
        contexts = dict(zip(tokens, context_KD, strict=True))
        tokens = dict(zip(tokens, y_KD, strict=True))
    if len(tokens) == models.N or policy.reconstruction is None:
        return torch.stack([(left | tokens)[cell] for cell in range(models.N)])
    return torch.stack(
        [
            tokens[cell] if cell in tokens and not policy.options.smooth else rebuilt(policy, cell, tokens)
            for cell in range(models.N)
        ]
    )


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("counts", [[16, 12, 8], [20, 20, 1], [24, 24, 24]])
def test_both_forms_are_the_slow_reference(options: dict[str, Any], counts: list[int]) -> None:
    model, made = dynaprune(**options)
    undecided(made)  # logits past 37 are those of an s that float rounds to one
    with torch.no_grad():
        expected_ND = slow(model, made, counts)
        masked = run(model, select_top(made.schedule.candidates(counts)))
        x_BND, _, view = model.embed(models.images(1))
        x_ND, scores_N = made.trunk(list(model.blocks[:1]), x_BND[0], view)
        gathered = made.gathered(list(model.blocks[1:]), x_ND, counts, scores_N)
    torch.testing.assert_close(masked.x_BND[0], expected_ND, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(gathered.x_ND, expected_ND, rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------------------ stages


@pytest.mark.parametrize(("depth", "stages"), [(12, (3, 6, 9)), (24, (6, 12, 18)), (4, (1, 2, 3))])
def test_stages_are_in_proportion_to_the_depth(depth: int, stages: tuple[int, ...]) -> None:
    assert policy(depth).gated == stages
    assert policy(depth).schedule.target_shares == (0.7, 0.49, 0.343)


def test_stages_can_be_placed() -> None:
    made = policy(stages=[2, 11], keep=[0.5, 0.25])
    assert made.gated == (2, 11) and made.schedule.trunk_depth == 2
    assert made.schedule.block_counts([12, 6]) == (24, 24, *[12] * 9, 6)


@pytest.mark.parametrize("stages", [[3, 6], [6, 3, 9], [3, 3, 9], [3, 6, 12], []])
def test_stages_that_do_not_fit_are_refused(stages: list[int]) -> None:
    with pytest.raises(
        InputError, match="must be 3 rising numbers, one for each of keep=.*under the model's 12 blocks"
    ):
        policy(stages=stages)


def test_options_without_use_are_refused() -> None:
    with pytest.raises(InputError, match="smooth=true needs reconstruction=learned, not nearest"):
        policy(smooth=True, reconstruction="nearest")
    with pytest.raises(InputError, match="keep=.* rises"):
        policy(keep=[0.5, 0.7])
    with pytest.raises(InputError, match="policy dynaprune: stages"):
        policy(stages=[0, 1, 2])  # before the first block there is no context


def test_without_deferral_the_last_ratio_applies_at_the_first_stage() -> None:
    made = policy(deferred=False)
    assert made.gated == (3,) and made.schedule.target_shares == (0.343,) and len(made.importance) == 1


def test_a_token_passes_its_information_on_before_it_goes() -> None:
    """Deferred pruning: what leaves at the second stage has been a key in the block between; what leaves at the first is
    no key of any."""
    model, _ = dynaprune(reconstruction="preserve")
    with torch.no_grad():
        deferred = disturbed(model, fixed([1.0] * 24, HALF, HALF))
        at_once = disturbed(model, fixed(HALF, HALF, HALF))
    assert torch.equal(at_once[0][:, :12], at_once[1][:, :12])
    assert (deferred[0] - deferred[1])[:, :12].abs().amax(-1).min() > 1e-3
