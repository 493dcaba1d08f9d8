"""The pixels that an outline covers, as a window of the image: what is computed of a small thing is small.

Shapes: H W pixels of the image, h w of a window.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgeprune.data.instances import Mask
from edgeprune.data.samples import UInt8


class Patch(NamedTuple):
    """The pixels that an outline covers, in a window of the image that begins at row `top` and column `left`."""

    top: int
    left: int
    inside_hw: Mask

    def within(self, map_HW: UInt8) -> UInt8:
        """The window of a map of the whole image, a view."""
        height, width = self.inside_hw.shape
        return map_HW[self.top : self.top + height, self.left : self.left + width]

    @property
    def pixels(self) -> int:
        return int(np.count_nonzero(self.inside_hw))


def union(patches: Sequence[Patch]) -> Patch:
    """The pixels that are in one or more of them."""
    if len(patches) == 1:
        return patches[0]
    top, left = min(each.top for each in patches), min(each.left for each in patches)
    bottom = max(each.top + each.inside_hw.shape[0] for each in patches)
    right = max(each.left + each.inside_hw.shape[1] for each in patches)
    inside_hw = np.zeros((bottom - top, right - left), np.bool_)
    for each in patches:
        height, width = each.inside_hw.shape
        inside_hw[each.top - top : each.top - top + height, each.left - left : each.left - left + width] |= (
            each.inside_hw
        )
    return Patch(top, left, inside_hw)


def in_common(one: Patch, other: Patch) -> int:
    """How many pixels are in both."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom = min(each.top + each.inside_hw.shape[0] for each in (one, other))
    right = min(each.left + each.inside_hw.shape[1] for each in (one, other))
    if bottom <= top or right <= left:
        return 0
    ours_hw, theirs_hw = (
        each.inside_hw[top - each.top : bottom - each.top, left - each.left : right - each.left]
        for each in (one, other)
    )
    return int(np.count_nonzero(ours_hw & theirs_hw))
