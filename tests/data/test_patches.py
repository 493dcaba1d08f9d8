"""Patches: the windows that outlines cover, of polygons and of run lengths, put together and compared."""

import numpy as np
import pytest

from edgeprune.data.instances import box_of
from edgeprune.data.patches import Patch, in_common, union
from edgeprune.data.polygons import checked_runs, from_runs, patch_of, patch_of_runs
from tests.data.coco_files import runs


def whole(patch: Patch | None, height: int, width: int) -> list[list[int]]:
    mask_HW = np.zeros((height, width), np.uint8)
    if patch is not None:
        patch.within(mask_HW)[patch.inside_hw] = 1
    return mask_HW.tolist()


def test_a_patch_is_the_window_that_an_outline_covers() -> None:
    square = patch_of(np.array([(2, 1), (5, 1), (5, 3), (2, 3)], np.float64), 6, 8)
    assert square is not None and square.pixels == 6
    assert patch_of(np.array([(9, 1), (12, 1), (12, 3)], np.float64), 6, 8) is None  # beside the image
    assert patch_of(np.array([(2.6, 1), (3.4, 1), (3.4, 3), (2.6, 3)], np.float64), 6, 8) is None  # between two centres
    mask_HW = np.array(whole(square, 6, 8), bool)
    same = patch_of_runs(checked_runs([13, 2, 4, 2, 4, 2, 21], 6, 8), 6, 8)
    assert same is not None and whole(same, 6, 8) == mask_HW.astype(int).tolist()
    assert (same.top, same.left, same.inside_hw.shape) == (1, 2, (2, 3))
    assert patch_of_runs(checked_runs([48], 6, 8), 6, 8) is None
    for wrong in ([[48]], 48):
        with pytest.raises(ValueError, match="no list of numbers"):
            checked_runs(wrong, 6, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_the_patch_of_run_lengths_is_the_smallest_window_of_the_same_pixels(share: float) -> None:
    """Of masks in windows of the image, and of whole columns, in which one run goes on from column to column."""
    draw = np.random.default_rng(0)
    for _ in range(60):
        mask_HW = np.zeros((9, 12), bool)
        top, left = int(draw.integers(0, 9)), int(draw.integers(0, 12))
        window_hw = mask_HW[top : int(draw.integers(top, 10)), left : int(draw.integers(left, 13))]
        window_hw[:] = draw.random(window_hw.shape) < share
        lengths = checked_runs(runs(mask_HW), 9, 12)
        np.testing.assert_array_equal(from_runs(lengths, 9, 12), mask_HW)
        patch, box = patch_of_runs(lengths, 9, 12), box_of(mask_HW)
        assert whole(patch, 9, 12) == mask_HW.astype(int).tolist() and (patch is None) == (box is None)
        if patch is not None and box is not None:
            height, width = patch.inside_hw.shape
            left, top, right, bottom = box
            assert (patch.left, patch.left + width) == (left, right)
            assert (patch.top, patch.top + height) in ((top, bottom), (0, 9))


def test_a_run_goes_on_at_the_top_of_the_next_column() -> None:
    patch = patch_of_runs(checked_runs([7, 4, 16], 9, 3), 9, 3)
    assert patch is not None and (patch.top, patch.left, patch.inside_hw.shape) == (0, 0, (9, 2))
    assert [row for row in whole(patch, 9, 3) if any(row)] == [[0, 1, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0]]


def test_patches_put_together_and_compared() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        polygons = [draw.uniform(-4, 24, (4, 2)) for _ in range(3)]
        patches = [patch for each in polygons if (patch := patch_of(each, 16, 20)) is not None]
        masks = [np.array(whole(each, 16, 20), bool) for each in patches]
        for one, ours_HW in zip(patches, masks, strict=True):
            for other, theirs_HW in zip(patches, masks, strict=True):
                assert in_common(one, other) == int((ours_HW & theirs_HW).sum())
        if patches:
            assert whole(union(patches), 16, 20) == np.any(masks, axis=0).astype(int).tolist()
