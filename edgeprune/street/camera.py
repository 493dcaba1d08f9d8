"""The camera: a pin-hole whose vertical lines stay vertical.

Pitch moves the horizon and roll shears it. For a car camera's few degrees that is indistinguishable from the true
rotation, and it lets walls be drawn column by column and sprites as upright boxes.

Street coordinates: s metres along the street, l metres to the right of its centre line, y metres up. The centre line
bends by c(s) metres sideways, so world x = l + c(s), world z = s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

NEAR = 0.6  # metres; nothing closer than this is drawn


Columns = TypeVar("Columns", float, np.ndarray)


@dataclass(frozen=True)
class Camera:
    """Pose and lens at one instant."""

    x: float  # world x, metres
    s: float  # world z, metres along the street
    height: float  # metres above the ground
    yaw: float  # radians to the right of the world z axis
    roll: float  # horizon slope, pixels per pixel
    focal: float  # pixels
    horizon: float  # row of the horizon at the image centre, pixels
    rows: int
    columns: int

    def horizon_at(self, columns: Columns) -> Columns:
        """Row of the horizon at these columns."""
        return self.horizon + self.roll * (columns - self.columns / 2)

    def locate(self, x: float, s: float) -> tuple[float, float]:
        """World (x, s) -> metres right of the optical axis, metres ahead."""
        cos, sin = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        dx, dz = x - self.x, s - self.s
        return dx * cos - dz * sin, dx * sin + dz * cos
