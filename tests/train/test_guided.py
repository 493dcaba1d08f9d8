"""Where guided queries begin, and what is learnt from them."""

from pathlib import Path

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.model.heads.answers import Answers
from edgeprune.train.checks import check_recipe
from edgeprune.train.fingerprint import settings_digest
from edgeprune.train.guided import draw_guided, pairs_of
from edgeprune.train.matching import Things, distances
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.tasks.instance import Targets, boxes_of
from tests import models
from tests.train import rectangles
from tests.train.tasks.test_instance import said, task

HEIGHT, WIDTH = 60, 96  # the last row of places has four rows of pixels


def some(counts: list[int]) -> Things:
    """Of frames whose things are rectangles, the first in the corner at the end."""
    masks_IHW = torch.zeros(sum(counts), HEIGHT, WIDTH, dtype=torch.uint8)
    for index, mask_HW in enumerate(masks_IHW):
        if index == 0:
            mask_HW[HEIGHT - 2 :, WIDTH - 2 :] = 1
        else:
            mask_HW[8 * index : 8 * index + 20, 12 * index : 12 * index + 5 * index] = 1
    return Things(counts, torch.arange(len(masks_IHW)) % 3, masks_IHW, boxes_of(masks_IHW))


@pytest.mark.parametrize("counts", [[3, 0, 2], [0, 0], [1]])
def test_each_group_has_a_place_in_each_thing(counts: list[int]) -> None:
    things = some(counts)
    torch.manual_seed(0)
    guided = draw_guided(things, 5)
    most = max(counts)
    assert guided.places_BG.shape == guided.thing_BG.shape == (len(counts), 5 * most)
    first = 0
    for frame, count in enumerate(counts):
        expected = ([*range(first, first + count)] + [-1] * (most - count)) * 5
        assert guided.thing_BG[frame].tolist() == expected
        first += count
    pairs = pairs_of(guided)
    assert len(pairs.thing_M) == 5 * sum(counts)
    across = -(-WIDTH // 8)
    for frame, query, thing in zip(pairs.frame_M, pairs.query_M, pairs.thing_M, strict=True):
        row, column = divmod(int(guided.places_BG[frame, query]), across)
        assert things.masks_IHW[thing, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].any()
        assert things.frame_I[thing] == frame


def test_places_are_drawn_by_the_pixels_that_lie_there() -> None:
    masks_IHW = torch.zeros(1, 16, 16, dtype=torch.uint8)
    masks_IHW[0, :8, :8] = 1  # 64 pixels of the first place, 16 of the last
    masks_IHW[0, 12:, 12:] = 1
    torch.manual_seed(0)
    places = draw_guided(Things([1], torch.zeros(1).long(), masks_IHW, boxes_of(masks_IHW)), 4000).places_BG
    share = torch.bincount(places[0], minlength=4) / 4000
    torch.testing.assert_close(share, torch.tensor([0.8, 0.0, 0.0, 0.2]), atol=0.03, rtol=0)


def test_what_is_learnt_is_mask_and_box_of_the_own_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all answers, a mean over things, whose queries count together as one; and no class."""
    monkeypatch.setattr(torch, "rand", lambda *shape, device=None: torch.full(shape, 0.5))
    made, prediction, things = task(tmp_path), said(2, 0), some([2, 1])
    torch.manual_seed(0)
    guided = draw_guided(things, 4)
    generator = torch.Generator().manual_seed(1)
    logits, boxes, masks = (
        [torch.randn(2, 8, *shape, generator=generator) for _ in range(2)] for shape in ((4,), (4,), (15, 24))
    )
    boxes = [each.sigmoid() for each in boxes]
    raw = prediction.raw
    raw.guided = Answers(logits, boxes, masks, raw.heatmap_BKPhPw, guided.places_BG)
    targets = Targets(torch.zeros(2, HEIGHT, WIDTH).long(), things, guided)
    found = made.loss(prediction, targets)[3]
    expected, pairs = 0.0, pairs_of(guided)
    for boxes_BG4, masks_BGhw in zip(boxes, masks, strict=True):
        expected += float(distances(boxes_BG4, masks_BGhw, things, pairs)) / 4
    assert float(found) == pytest.approx(expected / 3, rel=1e-5)
    raw.guided, targets.guided = None, None
    assert made.loss(prediction, targets)[3] == 0
    assert made.counted(targets)[3] == 3


def test_a_model_of_labels_has_no_query_to_guide(tmp_path: Path) -> None:
    made = models.changed(models.recipe(tmp_path), "dense", guided=4)
    with pytest.raises(InputError, match="phase dense: guided is of queries, and a model of task semantic has none"):
        check_recipe(made, ["dense"], 1)


def test_a_state_of_before_there_was_the_key_is_resumed(tmp_path: Path) -> None:
    """Its digest is that of a recipe without; another number of queries is another training."""
    made = rectangles.recipe(tmp_path)
    without, changed = (PhaseRun(each, "dense", tmp_path) for each in (made, models.changed(made, "dense", guided=2)))
    assert "guided" not in made.phases["dense"].model_dump(exclude_defaults=True)
    assert settings_digest(without) != settings_digest(changed)
