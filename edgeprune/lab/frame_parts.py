"""Which pixels of a labelled frame lie on things, and on which by their size: small, medium and large, as COCO divides them.

Shapes: H W pixels of the frame or of the input, N tokens of the grid (Gh x Gw), I things, K components of a label map.
"""

from math import inf

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError
from edgeprune.data import Sample
from edgeprune.data.classes import thing_classes
from edgeprune.data.datasets import DataSet
from edgeprune.data.instances import Instances, Mask
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.components import connected_components

Int = npt.NDArray[np.int64]

# Most pixels of the frame that a thing of each size has (Lin et al., "Microsoft COCO", ECCV 2014)
SIZES = {"small": 32.0**2, "medium": 96.0**2, "large": inf}
INSIDE, OUTSIDE = "inside", "outside"  # of all things
PARTS = (INSIDE, OUTSIDE, *SIZES)
_BIT = {name: 1 << place for place, name in enumerate(SIZES)}
_UNKNOWN = 1 << len(SIZES)  # of no class, in a crowd, or no pixel of the frame: neither inside nor outside


def things_of(sample: Sample, data_set: DataSet) -> Instances:
    """The things of a frame; where there is a label map alone, what hangs together (8 neighbours) of each class that `things:`
    of the data set names.

    Raises:
        InputError: there is a label map alone, and the data set names no things.
    """
    if sample.things is not None:
        classes = thing_classes(data_set)
        kept = [index for index, class_id in enumerate(sample.things.classes_I.tolist()) if class_id in classes]
        return sample.things.some(kept)
    if not data_set.things:
        raise InputError(
            f"data set {data_set.name!r} has label maps and names no classes that are things; add `things: [car, person]` to "
            "its YAML (docs/data.md)"
        )
    wanted = [data_set.names.index(name) for name in data_set.things]
    is_thing_HW = np.isin(sample.label_HW, wanted)
    found = connected_components(np.where(is_thing_HW, sample.label_HW, np.uint8(data_set.ignore_index)))
    places = [place for place, class_id in enumerate(found.id_K.tolist()) if class_id in wanted]
    height, width = sample.label_HW.shape
    return Instances.of(
        [int(found.id_K[place]) for place in places], (found.of_HW == place for place in places), (height, width)
    )


def size_of(area: int) -> str:
    """The key of SIZES for a thing of so many pixels."""
    return next(name for name, most in SIZES.items() if area <= most)


def pixels_of_parts(
    sample: Sample, things: Instances, ignore_index: int, fit: Preprocess, grid: tuple[int, int]
) -> dict[str, Int]:
    """How many pixels of each token (N,) belong to each of PARTS, at the input's size. Where things of two sizes overlap, a
    pixel is of both.

    Args:
        sample: at its own size.
        things: of the sample, from `things_of`.
        ignore_index: of the data set: what a label map has there is neither inside nor outside.
        grid: of the input.
    """
    mark_HW = np.zeros(things.size, np.uint8)
    if sample.things is None:
        mark_HW[sample.label_HW == ignore_index] = _UNKNOWN
    for index, (area, crowd) in enumerate(zip(things.areas().tolist(), things.crowd_I.tolist(), strict=True)):
        mark_HW[things.mask(index)] |= _UNKNOWN if crowd else _BIT[size_of(area)]
    mark_HW = fit.fit_label(mark_HW, _UNKNOWN)
    masks = {INSIDE: (mark_HW & (_UNKNOWN - 1)) > 0, OUTSIDE: mark_HW == 0}
    masks |= {name: (mark_HW & bit) > 0 for name, bit in _BIT.items()}
    return {name: per_token(mask_HW, grid) for name, mask_HW in masks.items()}


def per_token(mask_HW: Mask, grid: tuple[int, int]) -> Int:
    """How many pixels of each token a mask has, (N,); tokens are equal rectangles of the input."""
    rows, columns = grid
    height, width = mask_HW.shape
    found: Int = mask_HW.reshape(rows, height // rows, columns, width // columns).sum((1, 3)).ravel()
    return found
