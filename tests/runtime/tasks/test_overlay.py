"""The picture of a run."""

import numpy as np
import pytest

from edgeprune.runtime.tasks.overlay import Overlay

PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 200)]


@pytest.mark.parametrize(("height", "width"), [(432, 768), (97, 131), (50, 60)])
def test_classes_are_blended_and_bars_are_laid_over(height: int, width: int) -> None:
    overlay = Overlay(["road", "car", "pedestrian"], PALETTE)
    image_HW3 = np.full((height, width, 3), 100, np.uint8)
    label_HW = np.zeros((height, width), np.uint8)
    label_HW[:, width // 2 :] = 2
    picture_HW3 = overlay.draw(image_HW3, label_HW, "21.0 fps  18.1 ms")
    assert picture_HW3.shape == image_HW3.shape
    middle = picture_HW3[height // 2].astype(int)
    assert np.abs(middle[0] - [177, 50, 50]).max() <= 1
    assert np.abs(middle[-1] - [50, 50, 150]).max() <= 1
    assert picture_HW3[1, width - 2].max() < 90  # the bar is dark
    assert image_HW3.min() == image_HW3.max() == 100  # the frame itself is left alone


def test_what_has_no_class_is_dim_and_keeps_its_colours() -> None:
    overlay = Overlay(["road", "car", "pedestrian"], PALETTE)
    image_HW3 = np.broadcast_to(np.array([200, 100, 60], np.uint8), (240, 320, 3)).copy()
    label_HW = np.full((240, 320), 255, np.uint8)
    label_HW[:, :160] = 1
    middle = overlay.draw(image_HW3, label_HW, "1.0 fps")[120].astype(int)
    assert np.abs(middle[0] - [100, 178, 30]).max() <= 1
    assert np.abs(middle[-1] - [100, 50, 30]).max() <= 1


def test_the_status_changes_and_the_rest_does_not() -> None:
    overlay = Overlay(["road", "car", "pedestrian"], PALETTE)
    image_HW3 = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    label_HW = np.ones((240, 320), np.uint8)
    one, other = overlay.draw(image_HW3, label_HW, "1.0 fps"), overlay.draw(image_HW3, label_HW, "9.9 fps")
    changed_rows = np.flatnonzero((one != other).any((1, 2)))
    assert len(changed_rows) > 0 and changed_rows.max() < 24
    assert np.array_equal(one, overlay.draw(image_HW3, label_HW, "1.0 fps"))


def test_a_legend_of_many_classes_takes_more_lines() -> None:
    many = [f"class number {index}" for index in range(24)]
    palette = [(index, index, 255) for index in range(24)]

    def dark_rows(classes: int, height: int, width: int) -> int:
        image_HW3, label_HW = np.full((height, width, 3), 200, np.uint8), np.zeros((height, width), np.uint8)
        picture_HW3 = Overlay(many[:classes], palette[:classes]).draw(image_HW3, label_HW, "")
        return int((picture_HW3[:, -1].max(-1) < 90).sum())

    assert dark_rows(10, 480, 640) > dark_rows(2, 480, 640) > dark_rows(24, 480, 640)  # no room: left out
