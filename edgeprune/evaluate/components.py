"""Connected components of a map of class ids, by runs: numpy alone, for a device has no scipy.

Shapes: H W pixels; R runs of equal ids in a row, E pairs of runs that touch, K components.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeprune.data.nearest import LabelMap

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Components:
    """Pixels of one id that hang together, diagonals counted (8-neighbourhood).

    Attributes:
        of_HW: the component of each pixel, 0 to K - 1.
        id_K: the class id of a component.
        area_K: its pixels.
    """

    of_HW: Int
    id_K: Int
    area_K: Int


def connected_components(ids_HW: LabelMap) -> Components:
    """The connected components of every id, in the order of their first pixels."""
    height, width = ids_HW.shape
    begins_HW = np.ones((height, width), np.bool_)
    begins_HW[:, 1:] = ids_HW[:, 1:] != ids_HW[:, :-1]
    start_R = np.flatnonzero(begins_HW)
    length_R = np.diff(start_R, append=ids_HW.size)
    id_R = ids_HW.ravel()[start_R].astype(np.int64)
    above_E, below_E = _touching(start_R, length_R, id_R, width)
    _, component_R = np.unique(_roots(len(start_R), above_E, below_E), return_inverse=True)
    area_K = np.bincount(component_R, weights=length_R).astype(np.int64)
    id_K = np.zeros(len(area_K), np.int64)
    id_K[component_R] = id_R
    return Components(np.repeat(component_R, length_R).reshape(height, width), id_K, area_K)


def _touching(start_R: Int, length_R: Int, id_R: Int, width: int) -> tuple[Int, Int]:
    """Pairs of runs of one id in neighbouring rows that share an edge or a corner of a pixel."""
    row_R, column_R = np.divmod(start_R, width)
    first_R = row_R * (width + 2) + column_R  # rows lie two pixels apart, so that runs touch none of another row
    last_R = first_R + length_R - 1
    below_R = first_R + width + 2
    from_R = np.searchsorted(last_R, below_R - 1)  # the first run that ends at the pixel before it, or later
    to_R = np.searchsorted(first_R, below_R + length_R, side="right")
    count_R = to_R - from_R
    above_E = np.repeat(np.arange(len(start_R)), count_R)
    below_E = np.arange(len(above_E)) - np.repeat(np.cumsum(count_R) - count_R, count_R) + np.repeat(from_R, count_R)
    alike_E = id_R[above_E] == id_R[below_E]
    return above_E[alike_E], below_E[alike_E]


def _roots(count: int, one_E: Int, other_E: Int) -> Int:
    """Of each of `count` nodes the smallest that it hangs together with, by the edges: in every pass the larger root of each
    edge takes the smaller one's as its parent, and paths are halved until they have one step."""
    parent_R = np.arange(count)
    while len(one_E):
        one_E, other_E = parent_R[one_E], parent_R[other_E]
        apart_E = one_E != other_E
        one_E, other_E = one_E[apart_E], other_E[apart_E]
        np.minimum.at(parent_R, np.maximum(one_E, other_E), np.minimum(one_E, other_E))
        while not np.array_equal(parent_R, grand_R := parent_R[parent_R]):
            parent_R = grand_R
    return parent_R
