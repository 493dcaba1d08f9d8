"""The contact sheet: frames in rows, classes in their colours, what is ignored dark."""

import numpy as np

from edgeprune.data.datasets import DataSet
from edgeprune.data.instances import Instances
from edgeprune.data.samples import Sample
from edgeprune.data.sheet import GAP_PX, GROUND_RGB, TILE_PX, draw_sheet, numbered

DATA_SET = DataSet.model_validate(
    {
        "name": "tiny",
        "train": {"seed": 0, "frames": 1},
        "val": {"seed": 0, "frames": 1},
        "names": ["near", "far"],
        "palette": [(255, 0, 0), (0, 0, 255)],
    }
)


def sample(height: int, width: int) -> Sample:
    """Left half near, right half far, the lowest quarter ignored."""
    label_HW = np.zeros((height, width), np.uint8)
    label_HW[:, width // 2 :] = 1
    label_HW[3 * height // 4 :] = 255
    return Sample(f"frame of {width}x{height}", np.full((height, width, 3), 200, np.uint8), label_HW)


def test_every_frame_is_on_it_with_its_classes() -> None:
    sheet = draw_sheet([sample(40, 80)] * 5 + [sample(300, 20), sample(1, 1)], DATA_SET, "a title")
    pixels_HW3 = np.asarray(sheet)
    assert sheet.mode == "RGB" and sheet.width == 4 * (TILE_PX + GAP_PX) + GAP_PX
    top = next(row for row in range(sheet.height) if tuple(pixels_HW3[row, GAP_PX + 10]) == (90 + 140, 90, 90))
    for column in range(4):
        left = GAP_PX + column * (TILE_PX + GAP_PX)
        red, blue = pixels_HW3[top + 5, left + 5], pixels_HW3[top + 5, left + TILE_PX - 5]
        assert red[0] > 200 > 120 > red[2] and blue[2] > 200 > 120 > blue[0]
        dark = pixels_HW3[top + 7 * TILE_PX // 16, left : left + TILE_PX]
        assert len(np.unique(dark.reshape(-1, 3), axis=0)) == 2  # hatched: no class is drawn so
    assert tuple(pixels_HW3[-1, -1]) == GROUND_RGB


def test_one_frame_is_enough() -> None:
    assert draw_sheet([sample(40, 80)], DATA_SET, "a title").width > TILE_PX


def test_a_line_divides_things_of_one_class() -> None:
    """The frame's left half is one thing, its right half another, of one class: the pixels between them are lighter."""
    label_HW = np.zeros((60, TILE_PX), np.uint8)
    halves = np.arange(TILE_PX) < TILE_PX // 2
    masks = [np.broadcast_to(halves, label_HW.shape), np.broadcast_to(~halves, label_HW.shape)]
    image_HW3 = np.full((*label_HW.shape, 3), 200, np.uint8)
    one = Sample("area", image_HW3, label_HW)
    two = Sample("things", image_HW3, label_HW, Instances.of([0, 0], masks, label_HW.shape))
    plain, divided = (np.asarray(draw_sheet([each], DATA_SET, "a title")).astype(int) for each in (one, two))
    row = next(row for row in range(len(plain)) if tuple(plain[row, GAP_PX + 10]) == (90 + 140, 90, 90)) + 5
    differs_W = (plain[row] != divided[row]).any(-1)
    assert np.flatnonzero(differs_W).tolist() == [GAP_PX + TILE_PX // 2]
    assert divided[row, GAP_PX + TILE_PX // 2].sum() > plain[row, GAP_PX + TILE_PX // 2].sum() + 50


def test_a_smaller_thing_lies_on_a_larger_one() -> None:
    whole_HW, part_HW = np.ones((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
    part_HW[1:3, 1:3] = True
    for masks, numbers in (([part_HW, whole_HW], (1, 2)), ([whole_HW, part_HW], (2, 1))):
        thing_HW = numbered(Instances.of([0, 0], masks, (4, 4)))
        assert (thing_HW[1:3, 1:3] == numbers[0]).all() and thing_HW[0, 0] == numbers[1]
