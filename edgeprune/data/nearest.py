"""Nearest-neighbour resize of maps of ids, in whole numbers: no rounding of floats decides between two neighbours."""

import numpy as np
import numpy.typing as npt

LabelMap = npt.NDArray[np.integer]


def nearest_index(count: int, labels: int, start: int = 0, length: int = 1, of: int = 1) -> npt.NDArray[np.int64]:
    """For each of `count` pixels along one axis, which of `labels` cells holds its centre. On a border the cell that begins
    there counts.

    Args:
        start, length, of: the pixels lie from `start` on over `length` of the `of` units that the cells cover; all by default.
    """
    centre = 2 * count * start + (2 * np.arange(count, dtype=np.int64) + 1) * length  # in 1 / (2 count) of a unit
    return np.minimum(centre * labels // (2 * count * of), labels - 1)


def resize_nearest(ids_HW: LabelMap, height: int, width: int) -> LabelMap:
    """A label map at another size: each pixel takes the value at its centre."""
    if ids_HW.shape == (height, width):
        return ids_HW
    rows, columns = nearest_index(height, ids_HW.shape[0]), nearest_index(width, ids_HW.shape[1])
    resized_HW: LabelMap = ids_HW[rows[:, None], columns]
    return resized_HW
