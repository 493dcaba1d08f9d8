"""Dense optical flow between two frames, and labels that are moved along it: by OpenCV (Apache-2.0), the extra `flow`.

Flow: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, with OpenCV's own settings (`PRESET_FAST`).

Shapes: H W pixels; 2 a distance in pixels, to the right and down.
"""

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.data.samples import UInt8

LEFT_OUT = "labels carried by optical flow and `warped` are left out: pip install 'edgeprune[flow]'"
Floats = npt.NDArray[np.float32]


class Flow:
    """Flow between frames, on so many threads.

    Raises:
        ImportError: OpenCV is not here.
    """

    def __init__(self, threads: int) -> None:
        self._cv2: Any = importlib.import_module("cv2")
        self._cv2.setNumThreads(threads)
        self._dis = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def grey(self, image_HW3: UInt8) -> UInt8:
        """What of an RGB frame flow looks at (H, W)."""
        grey_HW: UInt8 = self._cv2.cvtColor(image_HW3, self._cv2.COLOR_RGB2GRAY)
        return grey_HW

    def between(self, grey_HW: UInt8, other_HW: UInt8) -> Floats:
        """Of each pixel of a frame how far away what it shows is in the other (H, W, 2)."""
        flow_HW2: Floats = self._dis.calc(grey_HW, other_HW, None)
        return flow_HW2

    def carry(self, label_HW: UInt8, flow_HW2: Floats) -> UInt8:
        """Labels of the other frame -> labels of a frame, by the flow `between` it and the other: backward warping, nearest
        pixel. What came from outside has the label of the edge."""
        return self._warp(label_HW, flow_HW2, self._cv2.INTER_NEAREST)

    def consistent(self, flow_HW2: Floats, back_HW2: Floats) -> npt.NDArray[np.bool_]:
        """Where a frame's flow to the other, and the other's back, lead to about the same pixel (H, W); not where the first
        leads out of the frame.

        |w + w'|^2 <= 0.01 (|w|^2 + |w'|^2) + 0.5: Sundaram et al., "Dense Point Trajectories by GPU-Accelerated Large
        Displacement Optical Flow", ECCV 2010."""
        there_HW2 = self._warp(back_HW2, flow_HW2, self._cv2.INTER_LINEAR)
        lengths_HW = np.square(flow_HW2).sum(-1) + np.square(there_HW2).sum(-1)
        apart_HW = np.square(flow_HW2 + there_HW2).sum(-1)
        x_HW, y_HW = places(flow_HW2)
        height, width = x_HW.shape
        inside_HW = (x_HW >= 0) & (x_HW <= width - 1) & (y_HW >= 0) & (y_HW <= height - 1)
        together_HW: npt.NDArray[np.bool_] = inside_HW & (apart_HW <= 0.01 * lengths_HW + 0.5)
        return together_HW

    def _warp(self, values: npt.NDArray[Any], flow_HW2: Floats, interpolation: int) -> npt.NDArray[Any]:
        warped: npt.NDArray[Any] = self._cv2.remap(
            values, *places(flow_HW2), interpolation, borderMode=self._cv2.BORDER_REPLICATE
        )
        return warped


def places(flow_HW2: Floats) -> tuple[Floats, Floats]:
    """Where the flow of each pixel leads, x and y (H, W) each."""
    height, width = flow_HW2.shape[:2]
    x_W, y_H = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    return flow_HW2[..., 0] + x_W, flow_HW2[..., 1] + y_H[:, None]


def find_flow(threads: int) -> Flow | None:
    """None where the extra is not installed: LEFT_OUT says what to type."""
    try:
        return Flow(threads)
    except ImportError:
        return None
