"""Which thing each pixel of a frame belongs to: exact masks, who a thing is from frame to frame, and how much of it is hidden.

Things are what sprites draw, of the classes in COUNTED; all pixels of these classes are some thing's. A thing that has two of
the classes (a sign on its pole) counts as one of each. Shapes: H W pixels, h w those of the rectangle that a sprite takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.street.classes import BICYCLIST, CAR, CLASSES, PEDESTRIAN, POLE, SIGN

COUNTED = (POLE, SIGN, CAR, PEDESTRIAN, BICYCLIST)
PARTS = 256  # texels that a sprite may have; 0 is transparent
# Who a thing is, the same in every frame of a drive: what it belongs to ("stretch" of street, "stream" of traffic), the number
# of that, and its own number in it.
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Seen:
    """A thing that can be seen in a frame, whole or in part.

    Attributes:
        key: who it is, the same in every frame of a drive; two things of a frame that share it are of two classes.
        label: its class, of COUNTED.
        pixels: how many it has in the frame, 1 or more.
        silhouette: how many it would have in the frame if nothing stood before it; what lies beyond the frame's edge is none.
    """

    key: Key
    label: int
    pixels: int
    silhouette: int

    @property
    def occlusion(self) -> float:
        """The share of its silhouette that is hidden: 0 for one that stands free, less than 1."""
        return 1.0 - self.pixels / self.silhouette


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture and who is in it.

    Attributes:
        image_HW3: RGB, uint8.
        label_HW: classes, uint8.
        thing_HW: uint16; pixels of `things[i]` hold i + 1, those of no thing 0.
        things: those that have a pixel.
    """

    image_HW3: np.ndarray
    label_HW: np.ndarray
    thing_HW: np.ndarray
    things: list[Seen]


class Owners:
    """Whose sprite was drawn last at each pixel, while a frame of height x width is drawn far to near."""

    def __init__(self, height: int, width: int) -> None:
        self._number_HW = np.zeros((height, width), np.uint16)  # 0: no sprite's
        self._drawn: list[tuple[Key, np.ndarray]] = []  # of each number from 1 on, and its silhouette's pixels by class

    def draw(
        self, key: Key, table: np.ndarray, indexed_hw: np.ndarray, visible_hw: np.ndarray, top: int, left: int
    ) -> None:
        """A sprite is drawn, its rectangle's corner at pixel (top, left).

        Args:
            table: (PARTS,) packed pixels of its texels.
            indexed_hw: its texels.
            visible_hw: where it isn't transparent, and no wall is nearer.
        """
        count_P = np.bincount(indexed_hw.ravel(), minlength=PARTS)
        count_P[0] = 0
        self._drawn.append((key, np.bincount(table >> 24, count_P, len(CLASSES))))
        height, width = visible_hw.shape
        self._number_HW[top : top + height, left : left + width][visible_hw] = len(self._drawn)

    def seen(self, label_HW: np.ndarray) -> tuple[np.ndarray, list[Seen]]:
        """`Frame.thing_HW` and `Frame.things`, when all is drawn. A pixel that a fence has drawn over is of another class, and
        no thing's."""
        code_HW = self._number_HW.astype(np.int64) * len(CLASSES) + label_HW
        pixels_C = np.bincount(code_HW.ravel())
        place_C = np.zeros(len(pixels_C), np.uint16)
        things: list[Seen] = []
        for code in np.flatnonzero(pixels_C).tolist():
            number, label = divmod(code, len(CLASSES))
            if number and label in COUNTED:
                key, silhouette_K = self._drawn[number - 1]
                things.append(Seen(key, label, int(pixels_C[code]), int(silhouette_K[label])))
                place_C[code] = len(things)
        return place_C[code_HW], things
