"""Queries that are told which thing is theirs: what they read, and that those that look for things do not notice them."""

import torch

from edgeprune.model.heads.guided import Guided
from edgeprune.model.heads.instance import LAYERS
from tests import models
from tests.model.heads.test_instance import CLASSES, QUERIES, network

# two frames, of two things and of one, in three groups
THINGS_BG = torch.tensor([[0, 1] * 3, [2, -1] * 3])


def guided(places_BG: torch.Tensor) -> Guided:
    return Guided(places_BG, THINGS_BG, groups=3)


def test_each_reads_its_own_group_and_what_has_a_thing() -> None:
    seen_BQQ = guided(torch.zeros(2, 6, dtype=torch.int64)).seen_by(2)
    expected = [[1, 1, 0, 0, 0, 0, 0, 0]] * 2
    expected += [[0, 0, 1, 1, 0, 0, 0, 0]] * 2 + [[0, 0, 0, 0, 1, 1, 0, 0]] * 2 + [[0, 0, 0, 0, 0, 0, 1, 1]] * 2
    assert seen_BQQ[0].int().tolist() == expected
    for number in (3, 5, 7):  # the second of each group has no thing in the second frame: it is read by itself alone
        expected[number - 1] = [int(place == number - 1) for place in range(8)]
    assert seen_BQQ[1].int().tolist() == expected


def test_queries_that_look_for_things_answer_as_without() -> None:
    """And what is guided has answers of its own, which hang on where it begins."""
    model, images_B3HW = network().train(), models.images(2)
    torch.manual_seed(0)
    places_BG = torch.randint(models.HEIGHT * models.WIDTH // 64, (2, 6))
    with torch.no_grad():
        plain = model(images_B3HW).raw
        beside, elsewhere = (model(images_B3HW, guided=guided(each)).raw for each in (places_BG, places_BG.flip(1)))
    torch.testing.assert_close(beside.logits, plain.logits)
    torch.testing.assert_close(beside.boxes, plain.boxes)
    torch.testing.assert_close(beside.masks, plain.masks, atol=1e-3, rtol=1e-3)
    assert torch.equal(beside.places_BQ, plain.places_BQ) and plain.guided is None
    assert torch.equal(beside.guided.places_BQ, places_BG)
    assert len(beside.guided.logits) == len(beside.guided.boxes) == len(beside.guided.masks) == LAYERS + 1
    assert beside.logits[0].shape == (2, QUERIES, CLASSES + 1) and beside.guided.logits[0].shape == (2, 6, CLASSES + 1)
    assert not torch.allclose(beside.guided.boxes[-1], elsewhere.guided.boxes[-1])


def test_two_groups_do_not_notice_each_other() -> None:
    model = network().train()
    places_BG = torch.arange(12).reshape(2, 6)
    moved_BG = places_BG.clone()
    moved_BG[:, 2:] += 30
    with torch.no_grad():
        first, second = (model(models.images(2), guided=guided(each)).raw.guided for each in (places_BG, moved_BG))
    torch.testing.assert_close([said[:, :2] for said in first.logits], [said[:, :2] for said in second.logits])
    assert not torch.allclose(first.logits[-1][:, 2:], second.logits[-1][:, 2:])
