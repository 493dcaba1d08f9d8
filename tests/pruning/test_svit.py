"""SViT against its paper: the loss, Gumbel sampling, preservation, reactivation, dynamic rate; and its random control."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Select, Shape
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.random import Random
from edgeprune.pruning.methods.svit import SViT
from edgeprune.pruning.selection import select_none
from tests import models


def policy(name: str = "svit", depth: int = 4, **options: object) -> SViT:
    made = make_policy(PolicySpec(name=name, options={"first": 1} | options), Shape(192, depth, models.GRID, 11))
    assert isinstance(made, SViT)
    return made


def fixed(*keeps: list[float]) -> Select:
    """The same mask for every image, gate by gate."""
    return lambda gate, scores_BN: torch.tensor(keeps[gate]).expand_as(scores_BN)


def test_the_papers_schedule_over_nine_gates() -> None:
    made = make_policy(PolicySpec(name="svit"), Shape(192, 12, (24, 32), 11))
    assert made.gated == tuple(range(3, 12)) and made.schedule.trunk_depth == 3
    assert made.schedule.target_shares == (0.7, 0.7, 0.7, 0.49, 0.49, 0.49, 0.343, 0.343, 0.343)
    assert made.schedule.target_counts == (538,) * 3 + (376,) * 3 + (263,) * 3


def test_gates_are_the_papers_and_cost_what_it_says() -> None:
    gate = policy().gates[0]
    shapes = [tuple(parameter.shape) for parameter in gate.parameters()]
    assert shapes == [(192,), (192,), (48, 192), (48,), (2, 48), (2,)]
    logits_N2 = torch.randn(5, 2)
    gate.fc2.register_forward_hook(lambda *_: logits_N2)  # type: ignore[union-attr]
    logp_N2 = torch.log_softmax(logits_N2, -1)
    torch.testing.assert_close(gate(torch.randn(5, 192)), logp_N2[:, 0] - logp_N2[:, 1])


def test_ratio_loss_holds_the_rate_over_the_batch() -> None:
    """lambda * mean over gates of (keep ratio of the batch - target)^2."""
    made = policy(keep=[0.5], weight=4.0)
    keeps = [torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]]), torch.ones(2, 4), torch.zeros(2, 4)]
    assert made.loss(keeps).item() == pytest.approx(4 * (0 + 0.25 + 0.25) / 3)


def test_without_dynamic_rate_each_image_holds_it() -> None:
    made = policy(keep=[0.5], weight=4.0, dynamic_rate=False)
    keeps = [torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]]), torch.ones(2, 4), torch.zeros(2, 4)]
    assert made.loss(keeps).item() == pytest.approx(4 * (0.25 + 0.25 + 0.25) / 3)


def test_ratio_loss_is_exact_in_bf16() -> None:
    made = policy(depth=2, keep=[0.5], weight=1.0)
    keep_BN = torch.zeros(8, 768, dtype=torch.bfloat16)
    keep_BN[:, :385] = 1
    assert made.loss([keep_BN]).item() == pytest.approx((1 / 768) ** 2, rel=1e-3)


def test_gradients_reach_every_gate_through_the_mix_and_the_loss() -> None:
    for from_task in (True, False):
        model = models.model().train()
        torch.manual_seed(0)
        prediction = model(models.images(2))
        (prediction.raw.square().mean() if from_task else prediction.masked.loss).backward()
        assert isinstance(model.policy, SViT)
        for gate in model.policy.gates:
            assert all(float(parameter.grad.abs().sum()) > 0 for parameter in gate.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("score", [-1.5, 0.0, 0.8])
def test_gumbel_sampling_keeps_with_the_gates_probability(score: float) -> None:
    torch.manual_seed(0)
    keep_BN = policy().options.sample(torch.full((10, 2000), score), 1.0)
    assert set(keep_BN.unique().tolist()) == {0.0, 1.0}
    assert keep_BN.mean().item() == pytest.approx(torch.sigmoid(torch.tensor(score)).item(), abs=0.02)


def test_the_straight_through_gradient_is_that_of_the_soft_sample() -> None:
    torch.manual_seed(0)
    scores_BN = torch.zeros(1, 1000, requires_grad=True)
    policy().options.sample(scores_BN, 1.0).sum().backward()
    gradient_BN = scores_BN.grad
    assert gradient_BN is not None
    assert (gradient_BN > 0).all()  # a larger score keeps more
    # the difference of two Gumbels, squashed, is uniform: the mean of y (1 - y) is 1/6
    assert gradient_BN.mean().item() == pytest.approx(1 / 6, rel=0.1)


# ------------------------------------------------------------------------------------------------ preservation


def tokens_after_each_block(model: object, keeps: list[list[float]]) -> list[Tensor]:
    """Tokens (N, D) before the gated blocks and after each of them, in the training form."""
    states: list[Tensor] = []
    image_13HW = models.images(1)
    with torch.no_grad():
        x_BND = model.embed(image_13HW)[0]  # type: ignore[attr-defined]
        for count in range(len(keeps) + 1):
            select = fixed(*(keeps[:count] + [[0.0] * models.N] * (len(keeps) - count)))
            states.append(model.policy.masked(list(model.blocks), x_BND, models.VIEW, select).x_BND[0])  # type: ignore[attr-defined]
    return states


def test_dropped_tokens_are_preserved_bit_for_bit_and_come_back() -> None:
    model = models.model()
    half = [1.0] * 12 + [0.0] * 12
    other = [0.0] * 12 + [1.0] * 12
    states = tokens_after_each_block(model, [half, half, other])
    for dropped, before, after in ((slice(12, 24), states[0], states[2]), (slice(0, 12), states[2], states[3])):
        assert torch.equal(before[dropped], after[dropped])
    # reactivation: what two gates let go, the third takes again and changes
    assert ((states[3] - states[2])[12:].abs().amax(-1) > 1e-3).all()
    assert ((states[1] - states[0])[:12].abs().amax(-1) > 1e-3).all()


def test_the_inference_form_preserves_bit_for_bit_too() -> None:
    model = models.model()
    with torch.no_grad():
        x_ND, _, scores_N = model.trunk(torch.from_numpy(models.frames(1)[0]))
        assert scores_N is not None
        gathered = model.policy.gathered([model.blocks[1]], x_ND, [7], scores_N)
    kept_K = gathered.selected_GK[0]
    same_N = (gathered.x_ND == x_ND).all(-1)
    assert not same_N[kept_K].any() and same_N.sum() == models.N - 7
    assert set(kept_K.tolist()) == set(scores_N.topk(7).indices.tolist())


def test_dropped_tokens_are_no_keys() -> None:
    """What a dropped token holds has no influence on the kept ones."""
    model = models.model()
    keep = [[1.0] * 12 + [0.0] * 12] * 3
    x_BND = model.embed(models.images(1))[0].detach()
    disturbed_BND = x_BND.clone()
    # noise, for a norm before each block would take a constant away
    disturbed_BND[:, 12:] += 10 * torch.randn(x_BND[:, 12:].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.blocks[0] = torch.nn.Identity()  # the ungated block would mix them
        ran = [
            model.policy.masked([_Plain(), *model.blocks[1:]], x, models.VIEW, fixed(*keep)).x_BND
            for x in (x_BND, disturbed_BND)
        ]
    assert torch.equal(ran[0][:, :12], ran[1][:, :12])


class _Plain(torch.nn.Module):
    def forward(self, x_BND: Tensor) -> Tensor:
        return x_BND


def test_an_image_of_which_nothing_is_kept_passes_unchanged() -> None:
    model = models.model()
    x_BND = model.embed(models.images(2))[0]
    masked = model.policy.masked(list(model.blocks), x_BND, models.VIEW, select_none)
    assert torch.equal(masked.x_BND, model.blocks[0](x_BND))
    masked.x_BND.sum().backward()
    assert model.pos_embed.grad is not None and model.pos_embed.grad.abs().min() > 0  # and passes its gradient back
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


# ------------------------------------------------------------------------------------------------ random


def test_random_is_blind_to_what_the_tokens_hold() -> None:
    made = policy("random")
    assert isinstance(made, Random) and not list(made.parameters())
    first, second = (made.scores(1, torch.randn(2, models.N, 192)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(first[0], first[1])
    assert not torch.equal(made.scores(0, torch.zeros(models.N, 192)), made.scores(1, torch.zeros(models.N, 192)))


def test_random_draws_anew_in_training_at_the_targets() -> None:
    model = models.model(models.card("random", keep=[0.8, 0.5, 0.2])).train()
    torch.manual_seed(0)
    runs = [model(models.images(8)).masked for _ in range(8)]
    assert not torch.equal(runs[0].keep_GBN[0], runs[1].keep_GBN[0])
    for gate, target in enumerate((0.8, 0.5, 0.2)):
        kept = torch.stack([run.keep_GBN[gate] for run in runs]).mean().item()
        assert kept == pytest.approx(target, abs=0.05)
    assert runs[0].loss == 0


def test_random_keeps_its_table_in_the_checkpoint() -> None:
    assert "scores_GN" in policy("random").state_dict()


def test_annealed_gates_end_without_noise() -> None:
    made = policy(anneal=0.5)
    scores_BN = torch.linspace(-2, 2, 4000).expand(5, -1)
    torch.manual_seed(0)
    wrong = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        wrong.append(((made.options.sample(scores_BN, progress) > 0.5) != (scores_BN > 0)).float().mean().item())
    assert wrong[0] > 1.5 * wrong[1] > 0.1
    assert wrong[2] == wrong[3] == 0


def test_a_share_of_the_batch_keeps_every_token_and_is_left_out_of_the_ratio() -> None:
    model = models.model(models.card(full=0.5))
    some = model.policy.train()
    assert isinstance(some, SViT)
    x_BND = torch.randn(4, models.N, 192, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    masked = some.masked(list(model.blocks), x_BND, models.VIEW)
    for keep_BN in masked.keep_GBN:
        assert (keep_BN[:2] == 1).all() and (keep_BN[2:] == 0).any()
    assert torch.equal(masked.loss, some.loss([keep_BN[2:] for keep_BN in masked.keep_GBN]))
    some.eval()
    assert all((keep_BN[0] == 0).any() for keep_BN in some.masked(list(model.blocks), x_BND, models.VIEW).keep_GBN)


def test_images_with_few_tokens_are_left_out_of_the_ratio() -> None:
    model = models.model(models.card(keep=[0.8], least=0.25))
    some = model.policy.train()
    assert isinstance(some, SViT)
    x_BND = torch.randn(4, models.N, 192, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    masked = some.masked(list(model.blocks), x_BND, models.VIEW)
    counts = {int(keep_BN[3].sum()) for keep_BN in masked.keep_GBN}
    assert len(counts) == 1 and 0.2 * models.N <= min(counts) < 0.8 * models.N  # one scale for all its gates
    assert torch.equal(masked.loss, some.loss([keep_BN[:3] for keep_BN in masked.keep_GBN]))


def test_without_annealing_gates_are_sampled_to_the_end() -> None:
    made = policy()
    torch.manual_seed(0)
    assert 0.3 < made.options.sample(torch.full((4, 500), -0.2), 1.0).mean().item() < 0.6


# ------------------------------------------------------------------------------------------------ taken away, for ablations


@pytest.mark.parametrize("option", ["reactivation", "preservation"])
def test_without_it_a_token_that_left_stays_away(option: str) -> None:
    options: dict[str, Any] = {option: False}
    model = models.model(models.card(**options)).train()
    torch.manual_seed(0)
    keeps = model(models.images(3)).masked.keep_GBN
    assert 0 < keeps[-1].mean() < keeps[0].mean() < 1
    for before_BN, after_BN in pairwise(keeps):
        assert (after_BN <= before_BN).all()


def test_without_preservation_empty_cells_show_one_learned_token() -> None:
    model = models.model(models.card(preservation=False))
    half = [1.0] * 12 + [0.0] * 12
    states = tokens_after_each_block(model, [half, half, half])
    empty_1D = model.policy.empty_1D
    assert isinstance(empty_1D, torch.Tensor) and empty_1D.requires_grad
    torch.testing.assert_close(states[3][12:], empty_1D.expand(12, -1))
    same = models.model()
    same.load_state_dict(model.state_dict(), strict=False)
    preserved = tokens_after_each_block(same, [half, half, half])
    torch.testing.assert_close(states[3][:12], preserved[3][:12])  # those that remain know nothing of it


def test_a_schedule_that_rises_needs_tokens_that_come_back() -> None:
    assert policy(keep=[0.3, 0.6]).schedule.on((10, 10)).target_counts == (30, 30, 60)
    with pytest.raises(InputError, match=r"keep=\[0.3, 0.6\] rises, but a token that left does not come back"):
        policy(keep=[0.3, 0.6], reactivation=False)
    assert policy(reactivation=False).schedule.round_up([3, 10, 7]) == (10, 10, 7)


def test_dynamicvits_gate_sees_the_whole_frame() -> None:
    """A token's score moves with the others; the paper's gate looks at the token alone."""
    torch.manual_seed(0)
    x_ND = torch.randn(models.N, 192)
    other_ND = torch.cat((x_ND[:1], torch.randn(models.N - 1, 192)))
    for gate, moves in (("svit", False), ("dynamicvit", True)):
        made = policy(gate=gate)
        moved = float((made.scores(0, x_ND)[0] - made.scores(0, other_ND)[0]).abs().detach())
        assert (moved > 1e-4) is moves


@pytest.mark.parametrize("options", [{"preservation": False}, {"reactivation": False}, {"gate": "dynamicvit"}])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cts-svit", "gates have no form with merging or exits with another gate"),
        ("random", "blind selection has no gate"),
        ("uniform", "blind"),
    ],
)
def test_what_has_no_such_forms(name: str, reason: str, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=reason):
        make_policy(PolicySpec(name=name, options=options), Shape(192, 4, models.GRID, 11))


def test_without_reactivation_three_gates_decide_in_place_of_nine() -> None:
    """As the paper's ablation (and its code's select_model_id 0 0 0 1 1 1 2 2 2); with it the nine stay nine."""
    for options, gated, ratios in (
        ({}, tuple(range(3, 12)), (0.7,) * 3 + (0.49,) * 3 + (0.343,) * 3),
        ({"reactivation": False}, (3, 6, 9), (0.7, 0.49, 0.343)),
        ({"preservation": False}, (3, 6, 9), (0.7, 0.49, 0.343)),
        ({"reactivation": False, "keep": [0.8, 0.4]}, (3, 8), (0.8, 0.4)),
    ):
        made = make_policy(PolicySpec(name="svit", options=dict(options)), Shape(192, 12, (24, 32), 11))
        assert isinstance(made, SViT) and len(made.gates) == len(gated)
        assert made.gated == gated and made.schedule.target_shares == ratios
    assert made.schedule.block_counts((600, 300)) == (768,) * 3 + (600,) * 5 + (300,) * 4


def test_a_gates_mask_holds_for_the_blocks_of_its_third() -> None:
    """Against the same written out: x <- M Block(x, keys M) + (1 - M) x in both blocks; the gate learns through the first."""
    model = models.model(models.card(keep=[0.6, 0.3], reactivation=False))
    assert isinstance(model.policy, SViT) and model.policy.gated == (1, 3)
    half, quarter = torch.zeros(models.N), torch.zeros(models.N)
    half[::2], quarter[::4] = 1.0, 1.0
    x_BND = model.embed(models.images(2))[0].detach()
    through_BN = torch.ones(2, models.N, requires_grad=True)
    masked = model.policy.masked(
        list(model.blocks), x_BND, models.VIEW, lambda gate, _: (half, quarter)[gate] * through_BN
    )
    blocks = [models.block(model, index) for index in range(4)]
    expected_BND = blocks[0](x_BND)
    for mask_N, index, learns in ((half, 1, True), (half, 2, False), (half * quarter, 3, True)):
        mask_BN1 = (mask_N * (through_BN if learns else 1.0))[..., None].expand(2, -1, 1)
        keys_BN = (mask_N > 0.5).expand(2, -1)
        if index == 3:  # masks multiply
            mask_BN1 = mask_BN1 * through_BN[..., None]
        expected_BND = mask_BN1 * blocks[index](expected_BND, keys_BN) + (1 - mask_BN1) * expected_BND
    torch.testing.assert_close(masked.x_BND, expected_BND)
    grads = [torch.autograd.grad(x_BND.square().sum(), through_BN)[0] for x_BND in (masked.x_BND, expected_BND)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-3)
