"""The instance head: what it gives, what of it is for training alone, and how its answers become outputs."""

from math import log
from typing import Any

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.model.heads.answers import Answers
from edgeprune.model.heads.decoder import WIDTH, QueryLayer, sine_positions
from edgeprune.model.heads.instance import LAYERS, MOST_THINGS, QueryHead
from edgeprune.model.heads.places import MOST, anchors, beyond, boxes_from, find_places
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
    return said([torch.tensor(logits_QK1)[None]], [torch.tensor(boxes_Q4)[None]], [masks_Qhw[None]])


def said(logits: list[torch.Tensor], boxes: list[torch.Tensor], masks: list[torch.Tensor]) -> Answers:
    """Of queries that begin somewhere."""
    return Answers(logits, boxes, masks, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, dtype=torch.int64))


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
            assert raw.heatmap_BKPhPw.shape == (2, CLASSES, models.HEIGHT // 8, models.WIDTH // 8)
            assert raw.places_BQ.shape == (2, QUERIES)
            assert all((each[..., 2:] > 0).all() for each in raw.boxes)


def test_patches_of_14_have_masks_of_whole_rows() -> None:
    model = network(patch=14, stem="patch-conv", height=56, width=84)
    with torch.no_grad():
        raw = model(torch.zeros(1, 3, 56, 84)).raw
    assert raw.masks[-1].shape == (1, QUERIES, 14, 21) and raw.heatmap_BKPhPw.shape == (1, CLASSES, 7, 11)


def test_a_window_smaller_than_the_input_has_places_of_its_own() -> None:
    """As training has them: positions and first boxes are of the window."""
    model = network(height=96, width=128)
    with torch.no_grad():
        raw = model(models.images(1)).raw
    assert raw.heatmap_BKPhPw.shape == (1, CLASSES, models.HEIGHT // 8, models.WIDTH // 8)
    assert raw.places_BQ.max() < models.HEIGHT * models.WIDTH // 64


def test_more_queries_than_places_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"256 queries, and an input of 64x96 has 96 places .* choose model.queries: 96"
    ):
        head(queries=256, height=64, width=96)


def test_a_query_begins_at_the_place_that_says_most_clearly_that_a_thing_is_there() -> None:
    """Its first box has its middle there, and so has its mask: beyond the box nothing is inside."""
    model = network(queries=1)
    assert isinstance(model.head, QueryHead)
    with torch.no_grad():
        model.head.place[2].weight.zero_()  # type: ignore[union-attr,operator]
        model.head.place[2].bias.zero_()  # type: ignore[union-attr,operator]
        for index in range(3):
            raw = model(models.images(1, index)).raw
            place = int(raw.heatmap_BKPhPw.amax(1).flatten(1).argmax())
            assert raw.places_BQ.tolist() == [[place]]
            row, column = divmod(place, models.WIDTH // 8)
            middle = [8 * (column + 0.5) / models.WIDTH, 8 * (row + 0.5) / models.HEIGHT]
            first = [*middle, 32 / models.WIDTH, 32 / models.HEIGHT]
            assert raw.boxes[-1][0, 0].tolist() == pytest.approx(first, abs=1e-5)


def test_masks_end_with_their_boxes() -> None:
    """A mask that says yes everywhere is left in the box, a twentieth larger and a pixel more."""
    rows_BQh, columns_BQw = beyond(torch.tensor([[[0.5, 0.25, 0.5, 0.5]]]), 16, 24)
    left_hw = 1.0 - rows_BQh[0, 0][:, None] - columns_BQw[0, 0][None]
    inside_hw = left_hw > 0
    rows, columns = inside_hw.any(1).nonzero()[:, 0].tolist(), inside_hw.any(0).nonzero()[:, 0].tolist()
    assert (rows[0], rows[-1]) == (0, 8) and (columns[0], columns[-1]) == (5, 18)
    assert left_hw[2, 12] == 1.0 and left_hw[15, 0] == pytest.approx(1.0 - MOST - columns_BQw[0, 0, 0].item())


@pytest.mark.parametrize(("queries", "things"), [(QUERIES, QUERIES), (120, MOST_THINGS)])
def test_shapes_and_order_of_the_outputs(queries: int, things: int) -> None:
    model = network(queries=queries, height=96, width=128)
    with torch.no_grad():
        raw = model(255 * torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))).raw
        class_T, score_T, box_T4, levels_Thw = model.head.decide(raw)
    assert model.head.outputs == ("classes", "scores", "boxes", "masks")
    assert class_T.shape == score_T.shape == (things,) and box_T4.shape == (things, 4)
    assert levels_Thw.shape == (things, 24, 32)
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
        raw = said([], [], [torch.full((1, 3, 16, 24), -5.0)])
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
    raw = said([], [], [torch.full((1, 200, 16, 24), -5.0)])
    raw.masks[0][..., :4, :4] = 5.0
    torch.manual_seed(0)
    attended_1QN = part._attended(raw, models.GRID)
    assert attended_1QN is not None
    masked = (attended_1QN.sum(-1) == 1).float().mean().item()
    assert masked == pytest.approx(0.5, abs=0.1) and set(attended_1QN.sum(-1).unique().tolist()) == {1, models.N}


def test_positions_are_in_pixels_whatever_the_window() -> None:
    """Pixel 24 is the middle of three patches and the second of five, and no two places are alike."""
    small_NC, large_NC = sine_positions((3, 3), (48, 48), WIDTH), sine_positions((5, 5), (80, 80), WIDTH)
    assert small_NC.shape == (9, WIDTH)
    torch.testing.assert_close(small_NC[4], large_NC[6])
    distance_NN = torch.cdist(large_NC, large_NC) + 1e3 * torch.eye(25)
    assert distance_NN.min() > 1


def test_places_are_maxima_of_their_neighbourhood() -> None:
    """A slope is no second thing; another class beside it is; of what is left, as many as asked for."""
    heatmap_BKHW = torch.full((2, 2, 4, 6), -3.0)
    heatmap_BKHW[0, 0, 1, 1:4] = torch.tensor([2.0, 5.0, 2.0])
    heatmap_BKHW[0, 1, 1, 3] = 4.0
    heatmap_BKHW[0, 0, 3, 5] = 1.0
    heatmap_BKHW[1, 1, 0, 0] = 9.0
    found_BQ = find_places(heatmap_BKHW, 3)
    assert found_BQ[0].tolist() == [8, 9, 23] and found_BQ[1, 0] == 0
    assert find_places(heatmap_BKHW, 100).shape == (2, 24)


def test_first_boxes_have_their_middle_at_their_place_and_are_moved_in_pixels() -> None:
    """By what is said: half of a first side to the right and one up, twice as wide and as high as before."""
    box_P4 = anchors((3, 5), (24, 40))
    torch.testing.assert_close(box_P4[7], torch.tensor([0.5, 0.5, 32 / 40, 32 / 24]))
    torch.testing.assert_close(box_P4[14], torch.tensor([0.9, 5 / 6, 32 / 40, 32 / 24]))
    moved = boxes_from(box_P4[7], torch.tensor([0.5, -1.0, log(2), 0.0]))
    torch.testing.assert_close(moved, torch.tensor([0.5 + 16 / 40, 0.5 - 32 / 24, 64 / 40, 32 / 24]))
    assert boxes_from(box_P4[7], torch.full((4,), 1e9))[2:].isfinite().all()


def test_what_it_begins_with_tells_queries_apart() -> None:
    """Weights as a training begins with them: with the small ones of a ViT's linears masks differ by 0.02."""
    torch.manual_seed(0)
    card = models.card("dense")
    spec = ModelSpec.model_validate(card.model.model_dump() | {"task": "instance", "queries": 16})
    model = make_model(card.model_copy(update={"model": spec})).eval()
    with torch.no_grad():
        raw = model(models.images(1)).raw
    assert raw.masks[-1][0].std(0).mean() > 0.1 and raw.boxes[-1][0, :, :2].std(0).min() > 0.05


def test_no_two_neighbours_are_the_maximum_in_bfloat16() -> None:
    """While it learns a head computes in bfloat16, in which what differs by a hundredth is alike."""
    model = network(queries=30).eval()
    assert isinstance(model.head, QueryHead)
    with torch.no_grad():
        model.head.heatmap.bias.fill_(7.0)  # type: ignore[union-attr]
        plain = model(models.images(2)).raw.heatmap_BKPhPw
        with torch.autocast("cpu", torch.bfloat16):
            heatmap_BKHW = model(models.images(2)).raw.heatmap_BKPhPw
    assert heatmap_BKHW.dtype == torch.float32
    counts = [len(each.flatten(1)[0].unique()) for each in (plain[0], heatmap_BKHW[0])]
    assert counts[1] == counts[0]
