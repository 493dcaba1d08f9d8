"""Labels beside those of the frame before, and carried from it, by a flow that is known."""

from typing import Any

import numpy as np
import pytest

from edgeprune.data.samples import UInt8
from edgeprune.lab.remembered import by_flow
from edgeprune.lab.remembered.by_flow import carry, warp
from edgeprune.lab.remembered.ways import ALONE, REMEMBERED, Way
from edgeprune.lab.through_time.scores import Judged


class OneToTheRight:
    """Of frames that are shown moved by a pixel: what lies at the left edge came from outside. How far two frames are apart
    is what their first pixels say."""

    def grey(self, image_HW3: UInt8) -> UInt8:
        return image_HW3[..., 0]

    def between(self, grey_HW: UInt8, other_HW: UInt8) -> np.ndarray:
        return np.full((*grey_HW.shape, 2), int(other_HW[0, 0]) - int(grey_HW[0, 0]), np.float32)

    def carry(self, label_HW: UInt8, flow_HW2: np.ndarray) -> UInt8:
        steps = -int(flow_HW2[0, 0, 0])
        return np.concatenate((np.repeat(label_HW[:, :1], steps, 1), label_HW[:, : label_HW.shape[1] - steps]), 1)

    def consistent(self, flow_HW2: np.ndarray, back_HW2: np.ndarray) -> np.ndarray:
        assert np.array_equal(flow_HW2, -back_HW2)
        return np.broadcast_to(np.arange(flow_HW2.shape[1]) > 0, flow_HW2.shape[:2])


FLOW: Any = OneToTheRight()


def moving(count: int) -> tuple[list[UInt8], list[UInt8]]:
    """Frames (1, 10, 3) that hold their number, and labels of which a bar goes to the right."""
    images = [np.full((1, 10, 3), number, np.uint8) for number in range(count)]
    labels = [np.array([[int(at == number + 1) for at in range(10)]], np.uint8) for number in range(count)]
    return images, labels


def test_what_moves_along_agrees_and_what_stands_does_not() -> None:
    images, labels = moving(4)
    frames = Judged(dense=list(labels), begins={0})
    found = warp(FLOW, images, frames, {"moves": Way(labels), "stands": Way([labels[1]] * 4)})
    assert found.pixels == 3 * 9  # the left edge has no vote
    assert (found.share("moves"), found.share("stands")) == (1.0, pytest.approx(7 / 9))


def test_bars_beside_a_picture_have_no_vote() -> None:
    images, labels = moving(2)
    frames = Judged(dense=list(labels), begins={0}, pictures=[(slice(0, 1), slice(1, 4))] * 2)
    found = warp(FLOW, images, frames, {"stands": Way([labels[1]] * 2)})
    assert found.pixels == 3 and found.share("stands") == pytest.approx(1 / 3)


def test_nothing_is_compared_over_a_cut() -> None:
    """Two clips of the same two frames; from the last of one the bar jumps back to the first of the other."""
    images, labels = moving(2)
    answers = Way([*labels, *labels])
    frames = Judged(dense=list(answers.answers), begins={0, 2})
    found = warp(FLOW, [*images, *images], frames, {"moves": answers})
    assert found.pixels == 2 * 9 and found.share("moves") == 1.0
    assert warp(FLOW, images[:1], Judged(dense=[labels[0]], begins={0}), {"moves": answers}).share("moves") is None


@pytest.mark.parametrize(
    ("alone_ms", "remembered_ms", "flow_ms", "every"),
    [
        (30.0, 10.0, 5.0, 5),  # (30 + 4 * 5) / 5 = 10
        (30.0, 10.0, 0.0, 3),  # as labels that are repeated
        (30.0, 10.0, 12.0, 3),  # no number is enough: as labels that are repeated
        (30.0, 29.0, 5.0, 2),
        (30.0, 6.0, 5.0, 7),  # 25, which the clip does not have
    ],
)
def test_labels_are_carried_as_long_as_takes_the_same_time(
    monkeypatch: pytest.MonkeyPatch, alone_ms: float, remembered_ms: float, flow_ms: float, every: int
) -> None:
    images, labels = moving(6)
    images, labels = [*images, images[5], images[5]], [*labels, labels[5], labels[5]]
    frames = Judged(dense=list(labels), begins={0})
    ways = {ALONE: Way(labels, [alone_ms] * 8, [0.5] * 8), REMEMBERED: Way(labels, [remembered_ms] * 8, [0.1] * 8)}
    clock = iter(x for pair in range(100) for x in (float(pair), pair + flow_ms / 1000))
    monkeypatch.setattr(by_flow, "perf_counter", lambda: next(clock))
    name, carried = carry(FLOW, images, frames, ways)
    assert name == f"labels carried by optical flow, one frame in {every} by itself"
    assert carried.tokens == [0.0 if at % every else 0.5 for at in range(8)]
    assert carried.ms == pytest.approx([flow_ms if at % every else alone_ms for at in range(8)])
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(carried.answers, labels, strict=True))
