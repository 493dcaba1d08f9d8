"""Optical flow of pictures whose motion is known."""

import importlib

import numpy as np
import pytest

from edgeprune.data.samples import UInt8
from edgeprune.lab.remembered import flow as module
from edgeprune.lab.remembered.flow import Flow, find_flow

HEIGHT, WIDTH, RIGHT, DOWN = 96, 160, 6, 3


@pytest.fixture
def flow() -> Flow:
    pytest.importorskip("cv2", reason="needs the extra `flow`: pip install 'edgeprune[flow]'")
    return Flow(1)


def picture(right: int, down: int) -> UInt8:
    """A window on soft noise (H, W, 3): what it shows lies so far to the right and down."""
    noise = np.random.default_rng(0).random((HEIGHT + 40, WIDTH + 40)).astype(np.float32)
    for axis in (0, 1):
        noise = sum(np.roll(noise, step, axis) for step in range(-4, 5)) / 9  # type: ignore[assignment]
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    window = noise[20 - down : 20 - down + HEIGHT, 20 - right : 20 - right + WIDTH]
    return np.repeat((255 * window).astype(np.uint8)[..., None], 3, axis=2)


def test_labels_are_moved_to_where_the_picture_went(flow: Flow) -> None:
    before_HW, now_HW = flow.grey(picture(0, 0)), flow.grey(picture(RIGHT, DOWN))
    flow_HW2 = flow.between(now_HW, before_HW)
    middle = flow_HW2[20:-20, 20:-20].reshape(-1, 2)
    assert np.abs(middle - (-RIGHT, -DOWN)).mean() < 0.2
    label_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
    label_HW[30:60, 50:100] = 7
    carried_HW = flow.carry(label_HW, flow_HW2)
    expected_HW = np.roll(label_HW, (DOWN, RIGHT), (0, 1))
    assert set(np.unique(carried_HW)) == {0, 7}
    assert (carried_HW == expected_HW).mean() > 0.99 > (label_HW == expected_HW).mean()


def test_a_flow_of_whole_pixels_is_carried_exactly_and_the_edge_is_repeated(flow: Flow) -> None:
    label_HW = np.arange(20, dtype=np.uint8).reshape(4, 5)
    flow_HW2 = np.zeros((4, 5, 2), np.float32)
    flow_HW2[..., 0] = 2
    assert flow.carry(label_HW, flow_HW2).tolist() == [
        [2 + 5 * row, 3 + 5 * row, *[4 + 5 * row] * 3] for row in range(4)
    ]


def test_where_the_way_back_leads_elsewhere_or_out_of_the_frame_nothing_is_said(flow: Flow) -> None:
    there_HW2, back_HW2 = np.zeros((8, 12, 2), np.float32), np.zeros((8, 12, 2), np.float32)
    there_HW2[..., 0], back_HW2[..., 0] = 3, -3
    back_HW2[:, 6:] = 0  # so the pixels from the third column on don't come back
    seen_HW = flow.consistent(there_HW2, back_HW2)
    assert seen_HW[:, :3].all() and not seen_HW[:, 3:].any()
    back_HW2[:, 6:, 0] = -3
    assert flow.consistent(there_HW2, back_HW2).all(0).tolist() == [True] * 9 + [False] * 3


def test_without_the_extra_there_is_no_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(module, "importlib", importlib)
    monkeypatch.setattr(importlib, "import_module", absent)
    assert find_flow(1) is None
