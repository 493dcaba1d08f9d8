"""Results whose labels are given."""

from collections.abc import Sequence

import numpy as np

from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.tasks import FrameFacts, Result

PALETTE = [(40 * index, 255 - 10 * index, 7) for index in range(6)]


class Found(Result):
    """A frame whose class ids are `index`, but for a corner of 255; with `sure`, that is the confidence of every pixel."""

    def __init__(self, index: int, name: str | None = None, height: int = 6, width: int = 9, sure: int | None = None):
        self.sure = sure
        image_HW3 = np.full((height, width, 3), index, np.uint8)
        frame = Frame(0, image_HW3, index, name)
        self.facts = FrameFacts(frame, "full", "full", 24, 1.0, 10.0, 0, 10**6, 0.1, 0.2, 0.3, 0.4)

    @property
    def labels(self) -> UInt8:
        label_HW = np.full(self.frame.image_HW3.shape[:2], self.index % 6, np.uint8)
        label_HW[0, 0] = 255
        return label_HW

    @property
    def confidence(self) -> UInt8 | None:
        return None if self.sure is None else np.full(self.frame.image_HW3.shape[:2], self.sure, np.uint8)

    @property
    def palette(self) -> Sequence[tuple[int, int, int]]:
        return PALETTE

    def areas(self) -> dict[str, float]:
        return {f"class {index}": float(index == self.index % 6) for index in range(6)}

    def overlay(self, tokens: bool = False, status: str | None = None) -> UInt8:
        return self.frame.image_HW3
