"""What is to be said of where the middles of things are, and how far a network is from it."""

import pytest
import torch

from edgeprune.train.heatmap import heatmap_distance, heatmap_targets
from edgeprune.train.matching import Things


def things(boxes: list[list[float]], classes: list[int], counts: list[int]) -> Things:
    return Things(counts, torch.tensor(classes), torch.zeros(len(boxes), 1, 1), torch.tensor(boxes).reshape(-1, 4))


def test_the_middle_of_each_thing_is_one_in_its_frame_and_class() -> None:
    """Of two of a class side by side the nearer one's value counts; a frame without things has none."""
    boxes = [[0.25, 0.5, 0.1, 0.1], [0.30, 0.5, 0.1, 0.1], [0.999, 1.0, 0.5, 0.5]]
    target_BKHW = heatmap_targets(things(boxes, [0, 0, 1], [2, 1, 0]), 2, 10, 20)
    assert target_BKHW.shape == (3, 2, 10, 20)
    assert (target_BKHW == 1).nonzero().tolist() == [[0, 0, 5, 5], [0, 0, 5, 6], [1, 1, 9, 19]]
    assert not target_BKHW[0, 1].any() and not target_BKHW[1, 0].any() and not target_BKHW[2].any()
    assert target_BKHW[0, 0, 5, 4].item() == pytest.approx(0.0439, abs=1e-3)  # exp(-1 / (2 * 0.4^2))


def test_large_things_have_wide_middles_in_their_own_proportions() -> None:
    target_HW = heatmap_targets(things([[0.525, 0.55, 1.0, 0.2]], [0], [1]), 1, 10, 20)[0, 0]
    across, down = target_HW[5], target_HW[:, 10]
    assert across[10] == down[5] == 1
    assert across[12].item() == pytest.approx(torch.exp(torch.tensor(-4 / (2 * 1.8**2))).item(), abs=1e-5)
    assert down[7] < 1e-5


def test_the_loss_is_that_of_the_paper_and_nothing_where_all_is_right() -> None:
    """By hand: one middle said with p = .25, a neighbour with a target of .5 with p = .75, another place with p = .5."""
    logits = torch.tensor([0.25, 0.75, 0.5]).logit().reshape(1, 1, 1, 3)
    target = torch.tensor([1.0, 0.5, 0.0]).reshape(1, 1, 1, 3)
    expected = 0.75**2 * -torch.tensor(0.25).log() + 0.5**4 * 0.75**2 * -torch.tensor(0.25).log()
    expected = expected + 0.5**2 * -torch.tensor(0.5).log()
    torch.testing.assert_close(heatmap_distance(logits, target), expected)
    right = torch.where(target == 1, 30.0, -30.0)
    assert heatmap_distance(right, target) < 1e-8
