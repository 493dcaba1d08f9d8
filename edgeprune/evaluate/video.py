"""Whether labels flicker: over a few frames that follow each other.

Shapes: H W pixels.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Consistency:
    """Means over all windows of a clip, 0 to 1; None without a window.

    Attributes:
        steady: of the pixels whose true class stays the same, those whose predicted one does, as it does where a wrong answer
            is constant.
        steady_and_right: of the same pixels, those that are predicted right in every frame.
    """

    steady: float | None
    steady_and_right: float | None


class VideoConsistency:
    """Video consistency VC_n (Miao et al., "VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild", CVPR 2021), and
    beside it the share that is right as well.

    Args:
        length: frames of a window, n; the paper has 8 and 16.
        ignore_index: label of pixels that have no vote in any window that it is in.
    """

    def __init__(self, length: int, ignore_index: int = 255) -> None:
        if length < 2:
            raise ValueError(f"a window of {length} frames shows no change; at least 2 are expected")
        self.length, self.ignore_index = length, ignore_index
        self._window: deque[tuple[Labels, Labels]] = deque(maxlen=length)
        self._sums = np.zeros(2)
        self._windows = 0

    def add(self, pred_HW: Labels, label_HW: Labels) -> None:
        """The next frame of the clip. A window in which nothing stays the same is left out."""
        self._window.append((np.asarray(pred_HW), np.asarray(label_HW)))
        if len(self._window) < self.length:
            return
        (first_pred, first_label), *others = self._window
        stays_HW = first_label != self.ignore_index
        steady_HW = np.ones(first_label.shape, np.bool_)
        for pred, label in others:
            stays_HW &= label == first_label
            steady_HW &= pred == first_pred
        if total := int(stays_HW.sum()):
            steady_HW &= stays_HW
            self._sums += int(steady_HW.sum()) / total, int((steady_HW & (first_pred == first_label)).sum()) / total
            self._windows += 1

    def cut(self) -> None:
        """What follows is another clip: no window holds frames of both."""
        self._window.clear()

    @property
    def found(self) -> Consistency:
        """Of all frames until now."""
        if not self._windows:
            return Consistency(None, None)
        steady, right = (self._sums / self._windows).tolist()
        return Consistency(steady, right)
