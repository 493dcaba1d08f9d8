"""The things of a frame: the class of each and the pixels that it covers, which may be another's too.

Shapes: I things, H W pixels, P planes of eight things each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Mask = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]
PER_PLANE = 8


@dataclass(frozen=True, eq=False)
class Instances:
    """The things of one frame.

    Masks lie in planes of bits, which are resized and cut as label maps are, by nearest neighbour, eight things at a time.

    Attributes:
        classes_I: ids of their classes, uint8.
        planes_PHW: uint8; thing i covers the pixels in which bit i % 8 of plane i // 8 is set.
        crowd_I: True for a region of many things of a class that nobody told apart: it is neither learnt nor scored.
        ids_I: what each is called, the same from frame to frame where a data set follows things; else its number.
    """

    classes_I: UInt8
    planes_PHW: UInt8
    crowd_I: Mask
    ids_I: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        classes: Sequence[int],
        masks: Iterable[Mask],
        size: tuple[int, int],
        crowd: Sequence[bool] | None = None,
        ids: Sequence[int] | None = None,
    ) -> "Instances":
        """
        Args:
            masks: of each thing, (H, W).
            size: H and W, which no mask says where there is none.
        """
        count = len(classes)
        planes_PHW = np.zeros((-(-count // PER_PLANE), *size), np.uint8)
        for index, mask_HW in enumerate(masks):
            planes_PHW[index // PER_PLANE] |= mask_HW.astype(np.uint8) << np.uint8(index % PER_PLANE)
        return cls(
            np.asarray(classes, np.uint8),
            planes_PHW,
            np.asarray([False] * count if crowd is None else crowd, np.bool_),
            np.asarray(range(count) if ids is None else ids, np.int64),
        )

    def __len__(self) -> int:
        return len(self.classes_I)

    @property
    def size(self) -> tuple[int, int]:
        """H and W."""
        return self.planes_PHW.shape[1], self.planes_PHW.shape[2]

    def mask(self, index: int) -> Mask:
        """The pixels (H, W) that thing `index` covers."""
        bit = np.uint8(1 << index % PER_PLANE)
        mask_HW: Mask = (self.planes_PHW[index // PER_PLANE] & bit) != 0
        return mask_HW

    def areas(self) -> npt.NDArray[np.int64]:
        """How many pixels each covers, (I,)."""
        return np.array([np.count_nonzero(self.mask(index)) for index in range(len(self))], np.int64)

    def some(self, indices: Sequence[int]) -> "Instances":
        """Some of them, in that order."""
        chosen = np.asarray(indices, np.int64)
        return Instances.of(
            self.classes_I[chosen].tolist(),
            (self.mask(int(index)) for index in chosen),
            self.size,
            self.crowd_I[chosen].tolist(),
            self.ids_I[chosen].tolist(),
        )

    def resized(self, height: int, width: int) -> "Instances":
        """At another size, by nearest neighbour; a thing may be left without a pixel."""
        if (height, width) == self.size:
            return self
        planes_PHW = np.zeros((len(self.planes_PHW), height, width), np.uint8)
        for plane_HW, resized_HW in zip(self.planes_PHW, planes_PHW, strict=True):
            resized_HW[:] = np.asarray(Image.fromarray(plane_HW).resize((width, height), Image.Resampling.NEAREST))
        return Instances(self.classes_I, planes_PHW, self.crowd_I, self.ids_I)

    def placed(self, height: int, width: int, top: int, left: int) -> "Instances":
        """Inside a frame of height x width, from row `top` and column `left` on; nothing covers the rest."""
        if (height, width) == self.size:
            return self
        planes_PHW = np.zeros((len(self.planes_PHW), height, width), np.uint8)
        planes_PHW[:, top : top + self.size[0], left : left + self.size[1]] = self.planes_PHW
        return Instances(self.classes_I, planes_PHW, self.crowd_I, self.ids_I)

    def padded(self, planes: int, ignore_index: int) -> tuple[UInt8, npt.NDArray[np.int64]]:
        """Arrays whose shapes no frame changes, for a batch. Crowds are left out; of more things than there is
        room for the largest are kept, in their order.

        Args:
            planes: how many, P.

        Returns:
            planes_PHW, of P planes, and classes_I, 8 P ids in int64: `ignore_index` where there is no thing.
        """
        most = planes * PER_PLANE
        chosen = np.flatnonzero(~self.crowd_I)
        if len(chosen) > most:
            largest = np.argsort(-self.areas()[chosen], kind="stable")[:most]
            chosen = chosen[np.sort(largest)]
        kept = self if len(chosen) == len(self) else self.some(chosen.tolist())
        planes_PHW, classes_I = np.zeros((planes, *self.size), np.uint8), np.full(most, ignore_index, np.int64)
        planes_PHW[: len(kept.planes_PHW)] = kept.planes_PHW
        classes_I[: len(kept)] = kept.classes_I
        return planes_PHW, classes_I


def box_of(mask_HW: Mask) -> tuple[int, int, int, int] | None:
    """The smallest box around the pixels of a mask: left, top, right, bottom, the last two beyond it; None: it has no pixel."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
