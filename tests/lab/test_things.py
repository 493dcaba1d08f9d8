"""What a data set's things are counted as."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.lab import things
from edgeprune.lab.things import boxes, count_things, main
from tests.train import rectangles


def test_components_are_measured() -> None:
    mask_HW = np.zeros((20, 30), bool)
    mask_HW[2:8, 3:5] = True  # 6 high, 12 pixels
    mask_HW[8, 5] = True  # touches its corner: one of 13
    mask_HW[15:18, 20:23] = True  # 9 pixels are too few
    mask_HW[10:20, 10] = mask_HW[10:20, 12] = mask_HW[19, 11] = True
    assert boxes(mask_HW).tolist() == [[7, 9, 13], [10, 20, 21]]
    assert boxes(np.zeros((4, 4), bool)).shape == (0, 3)


def test_a_row_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(things, "resize_nearest", lambda label_HW, height, width: label_HW)
    cars, people = count_things("street-small", "val", 3, ["car", "pedestrian"])
    assert (cars.thing, people.thing) == ("car", "pedestrian")
    assert 0 < cars.of_pixels < 100 and cars.small_in_a_frame <= cars.in_a_frame
    assert len(cars.heights.split()) == 5


def test_things_that_labels_tell_apart_are_counted_one_by_one(tmp_path: Path) -> None:
    """The plate lies over the box; both are as large as they would be alone."""
    data = rectangles.write_coco(tmp_path)
    box, plate = count_things(data, "val", 3, ["box", "plate"])
    assert box.in_a_frame == plate.in_a_frame == 1.0
    assert box.of_pixels < plate.of_pixels == pytest.approx(100 * 26 * 36 / (64 * 96), abs=0.15)
    high = 100 * 26 / 64
    assert [float(each) for each in box.heights.split()] == pytest.approx([high] * 5, abs=0.4)


def test_a_set_without_these_classes_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no class 'pole', it has background, .*name those to count with --class"):
        CliRunner().invoke(main, [rectangles.write_set(tmp_path)], catch_exceptions=False)
