"""DynaPrune against its paper: importance with context, deferral, reconstruction, the regulariser; and where it is mended."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from edgeprune.config import PolicySpec
from edgeprune.errors import InputError
from edgeprune.export.graphs import export_tail
from edgeprune.model import Segmenter
from edgeprune.model.blocks import Block
from edgeprune.model.policy import Bucket, Masked, Select, Shape, select_none
from edgeprune.policies import make_policy
from edgeprune.policies.dynaprune import DynaPrune, Importance
from edgeprune.policies.reconstruct import Learned, Nearest
from tests import models

VARIANTS: list[dict[str, Any]] = [
    {},
    {"smooth": True},
    {"literal_context": True},
    {"reconstruction": "nearest"},
    {"reconstruction": "preserve"},
]
HALF = [1.0] * 12 + [0.0] * 12


def dynaprune(**options: Any) -> tuple[Segmenter, DynaPrune]:
    model = models.model(models.card("dynaprune", **options))
    assert isinstance(model.policy, DynaPrune)
    return model, model.policy


def policy(depth: int = 12, **options: Any) -> DynaPrune:
    made = make_policy(PolicySpec(name="dynaprune", options=options), Shape(192, depth, models.GRID, 11))
    assert isinstance(made, DynaPrune)
    return made


def undecided(policy: DynaPrune) -> None:
    """Weights that leave importances near one half; those of `models.model` make them all but sure."""
    with torch.no_grad():
        for parameter in policy.importance.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.25)


def fixed(*keeps: list[float]) -> Select:
    """The same mask for every image, stage by stage."""
    return lambda stage, scores_BN: torch.tensor(keeps[stage]).expand_as(scores_BN)


def run(model: Segmenter, select: Select, batch: int = 1) -> Masked:
    x_BND, _, view = model.embed(models.images(batch))
    return model.policy.masked(list(model.blocks), x_BND, select, view)


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
        masked = run(model, made.select_top(counts))
        x_BND, _, view = model.embed(models.images(1))
        x_ND, scores_N = made.trunk(list(model.blocks[:1]), x_BND[0], view)
        gathered = made.gathered(list(model.blocks[1:]), x_ND, counts, scores_N)
    torch.testing.assert_close(masked.x_BND[0], expected_ND, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(gathered.x_ND, expected_ND, rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------------------ stages


@pytest.mark.parametrize(("depth", "stages"), [(12, (3, 6, 9)), (24, (6, 12, 18)), (4, (1, 2, 3))])
def test_stages_are_in_proportion_to_the_depth(depth: int, stages: tuple[int, ...]) -> None:
    assert policy(depth).gated == stages
    assert policy(depth).target_keep == (0.7, 0.49, 0.343)


def test_stages_can_be_placed() -> None:
    made = policy(stages=[2, 11], keep=[0.5, 0.25])
    assert made.gated == (2, 11) and made.trunk_depth == 2
    assert made.block_counts([12, 6]) == (24, 24, *[12] * 9, 6)


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
    assert made.gated == (3,) and made.target_keep == (0.343,) and len(made.importance) == 1


def test_a_token_passes_its_information_on_before_it_goes() -> None:
    """Deferred pruning: what leaves at the second stage has been a key in the block between; what leaves at the first is
    no key of any."""
    model, _ = dynaprune(reconstruction="preserve")
    with torch.no_grad():
        deferred = disturbed(model, fixed([1.0] * 24, HALF, HALF))
        at_once = disturbed(model, fixed(HALF, HALF, HALF))
    assert torch.equal(at_once[0][:, :12], at_once[1][:, :12])
    assert (deferred[0] - deferred[1])[:, :12].abs().amax(-1).min() > 1e-3


class Disturbed(Block):
    """A block that then changes its last twelve tokens."""

    def __init__(self, block: Block, by: float):
        super().__init__(192)
        self.load_state_dict(block.state_dict())
        self.noise_ND = by * torch.randn(12, 192, generator=torch.Generator().manual_seed(0))

    def forward_with_context(
        self, x_ND: Tensor, keys_N: Tensor | None = None, bias_N: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        y_BND, context_BND = super().forward_with_context(x_ND, keys_N, bias_N)
        return torch.cat((y_BND[:, :12], y_BND[:, 12:] + self.noise_ND), dim=1), context_BND


def disturbed(model: Segmenter, select: Select) -> list[Tensor]:
    """Tokens after all blocks, twice: the second time with the second half changed behind the trunk's block, which would
    spread it in any case."""
    x_BND, _, view = model.embed(models.images(1))
    return [
        model.policy.masked([Disturbed(models.block(model, 0), by), *model.blocks[1:]], x_BND, select, view).x_BND
        for by in (0.0, 3.0)
    ]


# ------------------------------------------------------------------------------------------------ reconstruction


def test_distance_alone_weighs_at_the_start_and_tau_is_one_patch() -> None:
    """With phi = 0 the softmax's argument is -||p - p_i||."""
    learned = Learned((3, 4))
    torch.nn.init.zeros_(learned.fc2.weight)
    torch.nn.init.zeros_(learned.fc2.bias)
    cells = [divmod(cell, 4) for cell in range(12)]
    expected_NN = [[-math.dist(p, p_i) for p_i in cells] for p in cells]
    torch.testing.assert_close(learned.table((3, 4)), torch.tensor(expected_NN))


def test_a_crop_has_the_weights_of_the_same_offsets() -> None:
    torch.manual_seed(0)
    learned = Learned((4, 6))
    large_NN, small_NN = (learned.table(grid).detach() for grid in ((4, 6), (2, 3)))
    inside = [0, 1, 2, 6, 7, 8]
    torch.testing.assert_close(small_NN, large_NN[inside][:, inside])


@pytest.mark.parametrize("options", [{}, {"smooth": True}, {"reconstruction": "nearest"}])
def test_what_left_at_the_first_stage_leaves_no_trace(options: dict[str, Any]) -> None:
    """It is no key, and the reconstruction ignores it."""
    model, _ = dynaprune(**options)
    with torch.no_grad():
        assert torch.equal(*disturbed(model, fixed(HALF, HALF, HALF)))


@pytest.mark.parametrize("smooth", [False, True])
def test_cells_whose_token_remains_keep_it_but_for_smooth(smooth: bool) -> None:
    model, _ = dynaprune(smooth=smooth)
    preserving, _ = dynaprune(reconstruction="preserve")
    preserving.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        x_ND, own_ND = (run(each, fixed(HALF, HALF, HALF)).x_BND[0] for each in (model, preserving))
    same_N = torch.isclose(x_ND, own_ND, atol=1e-4).all(-1)
    assert not same_N[12:].any()
    assert same_N[:12].tolist() == [not smooth] * 12


def test_equally_near_tokens_give_way_to_the_first_in_the_grid() -> None:
    nearest = Nearest((1, 5))
    x_BND = torch.arange(5.0)[None, :, None]
    f_BND = nearest.masked(x_BND, torch.tensor([[1.0, 0, 1, 0, 1]]), (1, 5))
    assert f_BND.flatten().tolist() == [0, 0, 2, 2, 4]
    # whatever order TopK gives them in
    assert nearest.gathered(torch.tensor([[4.0], [0], [2]]), torch.tensor([4, 0, 2])).flatten().tolist() == [
        0,
        0,
        2,
        2,
        4,
    ]


def test_the_graph_holds_the_table_of_the_weights_as_they_are() -> None:
    """A model that is in evaluation mode already, and gets other weights then."""
    model, made = dynaprune()
    assert isinstance(made.reconstruction, Learned)
    with torch.no_grad():
        made.reconstruction.tau.add_(1.5)
        expected_NN = made.reconstruction.table(models.GRID).numpy()
    proto = export_tail(model, Bucket("few", (12, 8, 8)), "onnxruntime")
    held = [onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if "table_NN" in tensor.name]
    assert len(held) == 1 and np.array_equal(held[0], expected_NN)
    assert not any("fc1" in tensor.name and "reconstruction" in tensor.name for tensor in proto.graph.initializer)
    assert "policy.reconstruction.table_NN" not in model.state_dict()


def test_an_image_of_which_nothing_remains_passes_unchanged() -> None:
    for options in VARIANTS:
        model, _ = dynaprune(**options)
        masked = run(model, select_none, batch=2)
        x_BND = model.embed(models.images(2))[0]
        torch.testing.assert_close(masked.x_BND, model.blocks[0](x_BND))
        masked.x_BND.sum().backward()
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


# ------------------------------------------------------------------------------------------------ training


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
        loss = run(model, made.select_top([6, 6, 6])).loss
    assert loss.item() == pytest.approx((0.5 - 0.25) ** 2 + 2 * (0.125 - 0.25) ** 2)


@pytest.mark.parametrize("options", [*VARIANTS, {"deferred": False}, {"regulariser": "literal"}])
@pytest.mark.parametrize("source", ["task", "loss"])
def test_gradients_reach_every_stage(options: dict[str, Any], source: str) -> None:
    model, made = dynaprune(**options)
    undecided(made)
    torch.manual_seed(0)
    prediction = model.train()(models.images(2))
    (prediction.logits_BKHW.square().mean() if source == "task" else prediction.masked.loss).backward()
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
    keep_BN = policy()._sample(torch.full((10, 2000), score))
    assert set(keep_BN.unique().tolist()) == {0.0, 1.0}
    assert keep_BN.mean().item() == pytest.approx(torch.sigmoid(torch.tensor(score)).item(), abs=0.02)


def test_annealed_stages_end_without_noise() -> None:
    made = policy(anneal=0.5)
    scores_BN = torch.linspace(-2, 2, 4000).expand(5, -1)
    torch.manual_seed(0)
    wrong = []
    for made.progress in (0.0, 0.25, 0.5, 1.0):
        wrong.append(((made._sample(scores_BN) > 0.5) != (scores_BN > 0)).float().mean().item())
    assert wrong[0] > 1.5 * wrong[1] > 0.1
    assert wrong[2] == wrong[3] == 0


def test_a_share_of_the_batch_keeps_every_token_and_is_left_out_of_the_regulariser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, made = dynaprune(full=0.5)
    dense_BKHW = model(models.images(4), fixed(*[[1.0] * models.N] * 3)).logits_BKHW
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
    torch.testing.assert_close(prediction.logits_BKHW[:2], dense_BKHW[:2], rtol=1e-3, atol=1e-3)
    assert [part_BN.shape for part_BN in seen] == [(2, models.N)] * 6
    for mask_BN, keep_BN in zip(seen[3:], prediction.masked.keep_GBN, strict=True):
        assert torch.equal(mask_BN, keep_BN[2:])
