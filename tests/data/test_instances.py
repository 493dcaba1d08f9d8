"""The things of a frame: masks in planes of bits are the masks that they were made of, at any size."""

import numpy as np
import pytest
from PIL import Image

from edgeprune.data.instances import Instances, Mask, box_of

SIZE = (30, 41)


def masks(count: int, seed: int = 0) -> list[Mask]:
    """Rectangles that lie over each other, each of another area."""
    draw, found = np.random.default_rng(seed), []
    for _ in range(count):
        mask_HW = np.zeros(SIZE, bool)
        top, left = int(draw.integers(0, 20)), int(draw.integers(0, 30))
        mask_HW[top : top + int(draw.integers(1, 11)), left : left + int(draw.integers(1, 12))] = True
        found.append(mask_HW)
    return found


def things(count: int, **keys: list[bool] | list[int]) -> Instances:
    return Instances.of([index % 5 for index in range(count)], masks(count), SIZE, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_each_thing_keeps_its_own_pixels(count: int) -> None:
    found = things(count)
    assert len(found) == count and found.size == SIZE and found.planes_PHW.shape[0] == -(-count // 8)
    for index, mask_HW in enumerate(masks(count)):
        np.testing.assert_array_equal(found.mask(index), mask_HW)
    assert found.areas().tolist() == [int(mask_HW.sum()) for mask_HW in masks(count)]
    assert found.ids_I.tolist() == list(range(count)) and not found.crowd_I.any()


def test_a_frame_without_things_has_a_size() -> None:
    none = Instances.of([], [], SIZE)
    assert len(none) == 0 and none.size == SIZE and none.areas().tolist() == []
    assert none.resized(3, 4).size == (3, 4) and none.placed(50, 60, 1, 2).size == (50, 60)
    assert len(none.some([])) == 0
    planes_PHW, classes_I = none.padded(2, 255)
    assert not planes_PHW.any() and planes_PHW.shape == (2, *SIZE) and classes_I.tolist() == [255] * 16


def test_some_of_them_in_another_order() -> None:
    found = things(20, crowd=[index == 3 for index in range(20)], ids=[100 + index for index in range(20)])
    some = found.some([17, 3, 9])
    assert some.ids_I.tolist() == [117, 103, 109] and some.classes_I.tolist() == [2, 3, 4]
    assert some.crowd_I.tolist() == [False, True, False]
    for index, mask_HW in enumerate(masks(20)[each] for each in (17, 3, 9)):
        np.testing.assert_array_equal(some.mask(index), mask_HW)
    assert len(found.some([])) == 0


@pytest.mark.parametrize("size", [(15, 20), (61, 83), (30, 20), SIZE])
def test_masks_are_resized_as_label_maps_are(size: tuple[int, int]) -> None:
    found = things(11).resized(*size)
    assert found.size == size
    for index, mask_HW in enumerate(masks(11)):
        alone = Image.fromarray(mask_HW.astype(np.uint8)).resize((size[1], size[0]), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(found.mask(index), np.asarray(alone) > 0)


def test_nothing_covers_the_rest_of_a_larger_frame() -> None:
    found = things(9).placed(50, 60, 7, 11)
    for index, mask_HW in enumerate(masks(9)):
        expected_HW = np.zeros((50, 60), bool)
        expected_HW[7 : 7 + SIZE[0], 11 : 11 + SIZE[1]] = mask_HW
        np.testing.assert_array_equal(found.mask(index), expected_HW)


def test_padded_is_of_one_shape_and_leaves_crowds_out() -> None:
    planes_PHW, classes_I = things(10, crowd=[index in (0, 8) for index in range(10)]).padded(8, 255)
    assert planes_PHW.shape == (8, *SIZE) and planes_PHW.dtype == np.uint8
    assert classes_I.dtype == np.int64 and classes_I.tolist() == [1, 2, 3, 4, 0, 1, 2, 4] + [255] * 56
    kept = [mask_HW for index, mask_HW in enumerate(masks(10)) if index not in (0, 8)]
    for index, mask_HW in enumerate(kept):
        np.testing.assert_array_equal((planes_PHW[0] >> np.uint8(index)) & 1, mask_HW)
    assert not planes_PHW[1:].any()


def test_of_too_many_the_largest_are_kept() -> None:
    found = things(21)
    planes_PHW, classes_I = found.padded(2, 9)
    areas = found.areas()
    kept = sorted(sorted(range(21), key=lambda index: -areas[index])[:16])
    assert classes_I.tolist() == [index % 5 for index in kept]
    for place, index in enumerate(kept):
        plane_HW = planes_PHW[place // 8]
        np.testing.assert_array_equal((plane_HW >> np.uint8(place % 8)) & 1, masks(21)[index])


def test_the_box_of_a_mask_ends_beyond_its_last_pixel() -> None:
    mask_HW = np.zeros((6, 9), bool)
    assert box_of(mask_HW) is None
    mask_HW[2, 3] = True
    assert box_of(mask_HW) == (3, 2, 4, 3)
    mask_HW[5, 0] = True
    assert box_of(mask_HW) == (0, 2, 4, 6)
