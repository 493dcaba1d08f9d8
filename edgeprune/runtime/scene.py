"""How much of a frame differs from the frame before, told on the host from few of its pixels: whether a camera stands, and
where a scene ends.

Shapes: H W pixels of the input, h w of those that are looked at.
"""

import numpy as np
import numpy.typing as npt

from edgeprune.runtime.engines.bound import UInt8

STEP = 8  # pixels of the input between two that are looked at
LEVELS = 40  # of the three colours together: noise of five levels each passes it in one of a thousand pixels
CUT = 0.6  # of the pixels: another scene, or another exposure


class SceneChange:
    """Of the frames of one stream."""

    def __init__(self) -> None:
        self._before_hw: npt.NDArray[np.int16] | None = None
        self._size: tuple[int, ...] = ()

    def look(self, frame_HW3: UInt8, size: tuple[int, ...]) -> float:
        """The share of the pixels that are other than in the frame before, 0 to 1; 1 of the first frame, and of the first in
        another size.

        Args:
            frame_HW3: at the size of the input.
            size: height and width as it was sent.
        """
        seen_hw = frame_HW3[STEP // 2 :: STEP, STEP // 2 :: STEP].sum(axis=2, dtype=np.int16)
        before_hw, self._before_hw = self._before_hw, seen_hw
        size_before, self._size = self._size, size
        if before_hw is None or size != size_before:
            return 1.0
        return float((np.abs(seen_hw - before_hw) > LEVELS).mean())
