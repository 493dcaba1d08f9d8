"""DToP against its paper: confidence, context, what an answer is made of, the auxiliary losses."""

from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.model.policy import EXCLUDED_SCORE, Shape, View
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.exits import CONTEXT, class_shares, exit_loss, exit_score, stay_scores
from edgeprune.pruning.methods import make_policy
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.selection import select_none, select_top
from tests import models
from tests.pruning.both_forms import both_forms, check_logits, selections
from tests.pruning.test_cts import labels


def policy(depth: int = 12, **options: object) -> Combination:
    made = make_policy(PolicySpec(name="dtop", options=options), Shape(192, depth, models.GRID, 11))
    assert isinstance(made, Combination)
    return made


def sure_by_loops(logits: list[float]) -> tuple[int, float]:
    """The class, and the probability that it is another, which floats hold where its own rounds to one."""
    top = max(range(len(logits)), key=lambda index: logits[index])
    others = sum(exp(value - logits[top]) for index, value in enumerate(logits) if index != top)
    return top, others / (1 + others)


def scores_by_loops(logits_NK: Tensor, context: int, there: list[int]) -> dict[int, float]:
    """The score of each token that is there."""
    found = {cell: sure_by_loops(logits_NK[cell].double().tolist()) for cell in there}
    scores = {cell: log(unsure / (1 - unsure)) for cell, (_, unsure) in found.items()}
    for name in range(logits_NK.shape[1]):
        members = sorted((cell for cell in there if found[cell][0] == name), key=lambda cell: found[cell][1])
        for cell in members[:context]:
            scores[cell] += CONTEXT
    return scores


@pytest.mark.parametrize("context", [0, 1, 2, 5])
def test_scores_are_the_odds_of_another_class_and_a_bonus_for_context(context: int) -> None:
    logits_NK = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)) * 3
    there = [cell for cell in range(30) if cell % 7]
    there_N = torch.zeros(30, dtype=torch.bool).index_fill(0, torch.tensor(there), True)
    scores_N = stay_scores(logits_NK, context, there_N)
    expected = scores_by_loops(logits_NK, context, there)
    for cell in range(30):
        assert float(scores_N[cell]) == pytest.approx(expected.get(cell, EXCLUDED_SCORE), abs=1e-4)
    # a batch changes nothing, and one class that no token is of has no context
    both_BN = stay_scores(torch.stack((logits_NK, -logits_NK)), context, torch.stack((there_N, there_N)))
    assert torch.equal(both_BN[0], scores_N)


def test_tokens_are_told_apart_whose_confidence_is_one() -> None:
    logits_NK = torch.tensor([[40.0, 0, 0], [41.0, 0, 0], [42.0, 0, 0]])
    assert (logits_NK.softmax(-1).amax(-1) == 1).all()
    scores_N = stay_scores(logits_NK, 0)
    assert scores_N[0] > scores_N[1] > scores_N[2]


def test_the_exit_is_at_the_papers_confidence() -> None:
    for confidence in (0.9, 0.95):
        for p in (confidence - 1e-3, confidence + 1e-3):
            scores_N = stay_scores(torch.tensor([[p, (1 - p) / 2, (1 - p) / 2]]).log(), 0)
            assert (scores_N > exit_score(confidence)).item() == (p < confidence)


# ------------------------------------------------------------------------------------------------ the whole method


def dtop_by_loops(model: Segmenter, image_3HW: Tensor, counts: list[int] | None) -> tuple[Tensor, list[set[int]]]:
    """Logits (K, H/2, W/2) and who stays at each exit, on a list of tokens. `counts` None: by confidence, as in training."""
    dtop = model.policy
    assert isinstance(dtop, Combination)
    context = dtop.exit_options.context
    x_BND, skips, _ = model.embed(image_3HW[None])
    x_ND = x_BND[0].clone()
    there, is_open = list(range(models.N)), set(range(models.N))
    canvas_NK = torch.zeros(models.N, model.spec.classes)
    kept: list[set[int]] = []
    for index, block in enumerate(model.blocks):
        if index in dtop.gated:
            logits_NK = dtop.heads[dtop.gated.index(index)](x_ND)
            scores = scores_by_loops(logits_NK, context, there)
            unsure = {cell for cell in there if scores[cell] > log(0.05 / 0.95)}
            if counts is None:
                stays = [cell for cell in there if cell in unsure]
            else:
                stays = sorted(there, key=lambda cell: -scores[cell])[: counts[dtop.gated.index(index)]]
            kept.append(set(stays))
            if len(stays) < len(there):
                for cell in is_open:
                    canvas_NK[cell] = logits_NK[cell]
                is_open &= unsure & set(stays)
                there = stays
        if there:
            x_ND[there] = block(x_ND[there][None])[0]
    head_KHW = model.head(model.norm(x_ND)[None], models.GRID, skips)[0]
    canvas_1KHW = torch.nn.functional.interpolate(
        canvas_NK.T.unflatten(1, models.GRID)[None], scale_factor=8.0, mode="bilinear"
    )
    for cell in range(models.N):
        if cell not in is_open:
            rows, columns = (slice(8 * place, 8 * place + 8) for place in divmod(cell, models.GRID[1]))
            head_KHW[:, rows, columns] = canvas_1KHW[0, :, rows, columns]
    return head_KHW, kept


@pytest.mark.parametrize("counts", [[14, 8], [23, 22], [models.N, 10], [9, 9], [models.N, models.N]])
@pytest.mark.parametrize("context", [0, 1])
@torch.no_grad()
def test_both_forms_are_the_method_on_a_list_of_tokens(counts: list[int], context: int) -> None:
    model = models.model(models.card("dtop", context=context))
    for image_3HW, forms in both_forms(model, counts):
        expected_KHW, kept = dtop_by_loops(model, image_3HW, counts)
        check_logits(forms, expected_KHW)
        before = [models.N, *counts]
        taken = [cells for cells, count, there in zip(kept, counts, before, strict=False) if count < there]
        assert [set(kept_K.tolist()) for kept_K in selections(model, image_3HW, counts)] == taken


def test_training_lets_go_whatever_is_sure() -> None:
    model = models.model(models.card("dtop"))
    images_B3HW = models.images(3)
    with torch.no_grad():
        expected = [dtop_by_loops(model, image_3HW, None) for image_3HW in images_B3HW]
        model.policy.train()
        prediction = model(images_B3HW)
    for index, (logits_KHW, kept) in enumerate(expected):
        found = [set(keep_BN[index].nonzero()[:, 0].tolist()) for keep_BN in prediction.masked.keep_GBN]
        assert found == kept
        torch.testing.assert_close(prediction.raw[index], logits_KHW, rtol=1e-3, atol=1e-3)
    counts = {len(kept[-1]) for _, kept in expected}
    assert len(counts) > 1 and max(counts) < models.N  # each image its own


def test_a_token_that_fills_the_bucket_has_the_logits_that_it_left_with() -> None:
    """And the full bucket, whose exits are none, leaves all to the head."""
    model = models.model(models.card("dtop", context=0))
    with torch.no_grad():
        masked = model(models.images(1), select_top(model.policy.schedule.candidates([23, 23]))).masked
        full = model(models.images(1), select_top(model.policy.schedule.candidates([24, 24]))).masked
        x_ND, _, scores_N = model.trunk(torch.from_numpy(models.frames(1)[0]))
    assert scores_N is not None and masked.open_BN is not None and full.open_BN is not None
    assert isinstance(model.policy, Combination)
    sure_N = scores_N <= model.policy.unsure
    assert 1 < sure_N.sum() < models.N
    assert torch.equal(masked.open_BN[0] > 0, ~sure_N)
    assert masked.keep_GBN[0].sum() == 23 and masked.frozen_BNK is not None
    logits_NK = model.policy.heads[0](x_ND)
    torch.testing.assert_close(masked.frozen_BNK[0][sure_N], logits_NK[sure_N], rtol=1e-3, atol=1e-3)
    assert (full.open_BN == 1).all()


def test_an_image_that_all_tokens_leave_is_answered_by_the_first_head() -> None:
    model = models.model(models.card("dtop")).train()
    masked = model(models.images(2), select_none).masked
    assert masked.open_BN is not None and not masked.open_BN.any()
    masked.x_BND.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


# ------------------------------------------------------------------------------------------------ losses and options


def test_class_shares_count_pixels() -> None:
    labels_BHW = labels(2)
    labels_BHW[0, :20, :20] = 255
    shares_BNK = class_shares(labels_BHW, 11, 255, 16)
    for image, cell in ((0, 0), (0, 8), (1, 13)):
        top, left = (16 * place for place in divmod(cell, models.GRID[1]))
        patch = labels_BHW[image, top : top + 16, left : left + 16].numpy()
        expected = [np.mean(patch == name) for name in range(11)]
        assert shares_BNK[image, cell].tolist() == pytest.approx(expected)
    assert shares_BNK[0, 0].sum() == 0


def test_the_loss_is_cross_entropy_over_the_labelled_pixels_of_the_tokens_there() -> None:
    labels_BHW = labels(2)
    labels_BHW[0, :20, :20] = 255
    generator = torch.Generator().manual_seed(0)
    logits_BNK = torch.randn(2, models.N, 11, generator=generator)
    there_BN = torch.rand(2, models.N, generator=generator) < 0.6
    total = count = 0.0
    for image in range(2):
        for row in range(64):
            for column in range(96):
                cell, label = row // 16 * 6 + column // 16, int(labels_BHW[image, row, column])
                if label != 255 and there_BN[image, cell]:
                    total -= float(logits_BNK[image, cell].log_softmax(-1)[label])
                    count += 1
    view = View(torch.zeros(2, 3, 64, 96), models.GRID, labels_BHW)
    assert float(exit_loss(logits_BNK, there_BN, view)) == pytest.approx(total / count, rel=1e-4)
    nothing = View(torch.zeros(2, 3, 64, 96), models.GRID, torch.full_like(labels_BHW, 255))
    assert exit_loss(logits_BNK, there_BN, nothing) == exit_loss(logits_BNK, there_BN, None) == 0


def test_gradients_reach_every_head_from_its_loss_and_from_the_answer() -> None:
    for from_task in (True, False):
        model = models.model(models.card("dtop")).train()
        prediction = model(models.images(2), None, labels(2))
        (prediction.raw.square().mean() if from_task else prediction.masked.loss).backward()
        assert isinstance(model.policy, Combination)
        for head in model.policy.heads:
            assert all(float(parameter.grad.abs().sum()) > 0 for parameter in head.parameters())  # type: ignore[union-attr]
        assert model.pos_embed.grad is not None and model.pos_embed.grad.any()


@pytest.mark.parametrize(
    "depth, places",
    [(12, (6, 8)), (24, (8, 16)), (18, (9, 12)), (20, (7, 13)), (4, (2, 3)), (3, (2,)), (2, (1,))],
)
def test_exits_are_the_papers_of_12_and_24_blocks_and_else_in_proportion(depth: int, places: tuple[int, ...]) -> None:
    assert policy(depth).gated == places


def test_the_default_leaves_the_papers_share_of_the_work() -> None:
    made = policy()
    assert made.schedule.target_shares == (0.7, 0.5) and made.schedule.relative_token_layers(
        made.schedule.target_shares
    ) == pytest.approx(86.8 / 109.9, abs=0.01)
    assert policy(exits=[3, 6, 9], keep=[0.8, 0.4]).schedule.target_shares == (0.8, 0.8, 0.4)


@pytest.mark.parametrize("exits", [[0, 3], [8, 6], [6, 12], [6, 6]])
def test_exits_lie_between_blocks_one_after_the_other(exits: list[int]) -> None:
    with pytest.raises(InputError, match="expected to rise, each between two of the model's 12 blocks"):
        policy(exits=exits)


def test_a_policy_without_exits_is_refused() -> None:
    with pytest.raises(InputError, match="nothing is left to decide"):
        policy(exits=[])
