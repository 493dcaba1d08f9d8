"""The instance head: what it gives, what of it is for training alone, and how its answers become outputs."""

from typing import Any

import pytest
import torch

from edgeprune.model.heads.instance import LAYERS, MOST_THINGS, WIDTH, Answers, QueryHead, QueryLayer, sine_positions
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec
from edgeprune.quantize.loading import make_model
from tests import models

CLASSES, QUERIES = 5, 8


def network(policy: str = "dense", seed: int = 0, **changes: Any) -> Segmenter:
    card = models.card(policy)
    spec = card.model.model_dump() | {"task": "instance", "queries": QUERIES, "classes": CLASSES} | changes
    return models.model(card.model_copy(update={"model": ModelSpec.model_validate(spec)}), seed)


def head(**changes: Any) -> QueryHead:
    return QueryHead(24, ModelSpec.model_validate({"task": "instance", "queries": 4, "classes": 3} | changes), ())


def answers(logits_QK1: Any, boxes_Q4: Any, masks_Qhw: torch.Tensor) -> Answers:
    return Answers([torch.tensor(logits_QK1)[None]], [torch.tensor(boxes_Q4)[None]], [masks_Qhw[None]])


@pytest.mark.parametrize("stem", ["patch", "conv", "patch-conv"])
@pytest.mark.parametrize("convolutions", ["full", "half"])
def test_shapes_of_every_answer(stem: str, convolutions: str) -> None:
    """Of one while it answers, before the first layer and after each while it learns."""
    model = network(stem=stem, convolutions=convolutions)
    images_B3HW = models.images(2)
    with torch.no_grad():
        for count, raw in ((1, model(images_B3HW).raw), (LAYERS + 1, model.train()(images_B3HW).raw)):
            assert {tuple(each.shape) for each in raw.logits} == {(2, QUERIES, CLASSES + 1)}
            assert {tuple(each.shape) for each in raw.boxes} == {(2, QUERIES, 4)}
            assert {tuple(each.shape) for each in raw.masks} == {(2, QUERIES, models.HEIGHT // 4, models.WIDTH // 4)}
            assert len(raw.logits) == len(raw.boxes) == len(raw.masks) == count
            assert all(((each > 0) & (each < 1)).all() for each in raw.boxes)


def test_patches_of_14_have_masks_of_whole_rows() -> None:
    model = network(patch=14, stem="patch-conv", height=56, width=84)
    with torch.no_grad():
        raw = model(torch.zeros(1, 3, 56, 84)).raw
    assert raw.masks[-1].shape == (1, QUERIES, 14, 21)


@pytest.mark.parametrize(("queries", "things"), [(QUERIES, QUERIES), (120, MOST_THINGS)])
def test_shapes_and_order_of_the_outputs(queries: int, things: int) -> None:
    model = network(queries=queries)
    with torch.no_grad():
        raw = model(models.images(1)).raw
        class_T, score_T, box_T4, levels_Thw = model.head.decide(raw)
    assert model.head.outputs == ("classes", "scores", "boxes", "masks")
    assert class_T.shape == score_T.shape == (things,) and box_T4.shape == (things, 4)
    assert levels_Thw.shape == (things, models.HEIGHT // 4, models.WIDTH // 4)
    assert not class_T.is_floating_point() and not levels_Thw.is_floating_point()
    assert class_T.min() >= 0 and class_T.max() < CLASSES and levels_Thw.min() >= 0 and levels_Thw.max() <= 255
    assert (score_T[1:] <= score_T[:-1]).all() and score_T.min() >= 0 and score_T.max() <= 1
    assert (box_T4[:, 2:] >= box_T4[:, :2]).all()


def test_a_thing_is_a_query_and_a_class_and_its_score_counts_its_mask() -> None:
    """Two queries of four, one of them of two classes; one's mask is sure of itself, the other's is 0.6 where it is at all."""
    mask_Qhw = torch.full((4, 2, 3), -20.0)
    mask_Qhw[0, 0, 0] = 20.0
    mask_Qhw[1] = torch.tensor([[0.6, 0.6, 0.2], [0.11, 0.31, 0.11]]).logit()
    far = 30.0  # of a logit over the others: its probability is one
    logits_QK1 = [[0.0, far, 0.0, 0.0], [far, 0.0, far, 0.0], [0.0, 0.0, 0.0, far], [0.0, 0.0, 0.0, far]]
    raw = answers(logits_QK1, [[0.5, 0.5, 0.2, 0.4]] * 2 + [[0.0] * 4] * 2, mask_Qhw)
    class_T, score_T, box_T4, levels_Thw = head().decide(raw)
    assert class_T.tolist()[:3] in ([1, 0, 2], [1, 2, 0])
    assert score_T.tolist() == pytest.approx([1.0, 0.5 * 0.6, 0.5 * 0.6, 0.0], abs=1e-5)
    torch.testing.assert_close(box_T4[0], torch.tensor([0.4, 0.3, 0.6, 0.7]))
    assert levels_Thw[0].tolist() == [[255, 0, 0], [0, 0, 0]]
    assert levels_Thw[1].tolist() == [[153, 153, 51], [28, 79, 28]] and torch.equal(levels_Thw[1], levels_Thw[2])


def test_a_label_map_has_the_best_thing_above_and_leaves_out_the_doubtful() -> None:
    mask_Qhw = torch.full((4, 1, 4), -20.0)
    mask_Qhw[0, 0, :2], mask_Qhw[1, 0, 1:3], mask_Qhw[2, 0, 3] = 20.0, 20.0, 20.0
    logits_QK1 = [[0.0, 9.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 9.0]]
    found = head().label_map(answers(logits_QK1, [[0.5] * 4] * 4, mask_Qhw))
    assert found.dtype == torch.uint8 and found.tolist() == [[1, 1, 0, 255]]


def test_of_a_batch_each_frame_has_its_own_outputs() -> None:
    """As alone: one frame is taken of the last answer."""
    model = network("svit")
    with torch.no_grad():
        raw = model(models.images(3)).raw
        for index in range(3):
            alone = model(models.images(1, 100 + index)).raw
            for ours, theirs in zip(model.head.decide(raw.of_frame(index)), model.head.decide(alone), strict=True):
                torch.testing.assert_close(ours, theirs, atol=1.01 if not ours.is_floating_point() else 1e-4, rtol=0)


def test_attention_is_masked_while_it_learns_and_never_while_it_answers() -> None:
    """Where a query may read is where its mask is; one whose mask is nowhere reads everywhere."""
    model = network()
    part = model.head
    assert isinstance(part, QueryHead)
    images_B3HW = models.images(2)
    with torch.no_grad():
        plain = model(images_B3HW).raw
        part.masked = 1.0
        assert torch.equal(model(images_B3HW).raw.masks[-1], plain.masks[-1])
        part.train()
        raw = Answers([], [], [torch.full((1, 3, 16, 24), -5.0)])
        raw.masks[0][0, 0, :4, :4], raw.masks[0][0, 1, 8:, 12:] = 5.0, 5.0
        attended_1QN = part._attended(raw, models.GRID)
        assert attended_1QN is not None
        counts = attended_1QN.sum(-1).tolist()[0]
        assert counts == [1, 6, models.N] and attended_1QN[0, 0, 0] and attended_1QN[0, 1, -1]
        part.masked = 0.0
        assert part._attended(raw, models.GRID) is None


def test_a_masked_query_reads_nothing_from_outside_its_mask() -> None:
    layer = QueryLayer().eval()
    torch.manual_seed(0)
    query_BQC, position_QC, memory_BNC = torch.randn(1, 2, WIDTH), torch.randn(2, WIDTH), torch.randn(1, 6, WIDTH)
    attended_BQN = torch.tensor([[[True, True, False, False, False, False], [True] * 6]])
    with torch.no_grad():
        before = layer.tokens(query_BQC + position_QC, memory_BNC, memory_BNC, attended_BQN)
        memory_BNC[:, 4] += 3.0
        after = layer.tokens(query_BQC + position_QC, memory_BNC, memory_BNC, attended_BQN)
    assert torch.equal(before[0, 0], after[0, 0]) and not torch.allclose(before[0, 1], after[0, 1])


def test_half_of_the_queries_are_masked_at_a_half() -> None:
    part = head(queries=200).train()
    part.masked = 0.5
    raw = Answers([], [], [torch.full((1, 200, 16, 24), -5.0)])
    raw.masks[0][..., :4, :4] = 5.0
    torch.manual_seed(0)
    attended_1QN = part._attended(raw, models.GRID)
    assert attended_1QN is not None
    masked = (attended_1QN.sum(-1) == 1).float().mean().item()
    assert masked == pytest.approx(0.5, abs=0.1) and set(attended_1QN.sum(-1).unique().tolist()) == {1, models.N}


def test_positions_are_of_a_place_and_not_of_a_size() -> None:
    """The middle of a grid of three is the middle of a grid of five, and no two places are alike."""
    small_NC, large_NC = sine_positions((3, 3), WIDTH), sine_positions((5, 5), WIDTH)
    assert small_NC.shape == (9, WIDTH)
    torch.testing.assert_close(small_NC[4], large_NC[12])
    distance_NN = torch.cdist(large_NC, large_NC) + 1e3 * torch.eye(25)
    assert distance_NN.min() > 1


def test_what_it_begins_with_tells_queries_apart() -> None:
    """Weights as a training begins with them: with the small ones of a ViT's linears masks differ by 0.02, boxes by 0.006."""
    torch.manual_seed(0)
    card = models.card("dense")
    spec = ModelSpec.model_validate(card.model.model_dump() | {"task": "instance", "queries": 16})
    model = make_model(card.model_copy(update={"model": spec})).eval()
    with torch.no_grad():
        raw = model(models.images(1)).raw
    assert raw.masks[-1][0].std(0).mean() > 0.1 and raw.boxes[-1][0].std(0).min() > 0.05
