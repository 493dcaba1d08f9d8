"""What a stretch of street consists of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeprune.street.owners import Key
from edgeprune.street.population import FARTHEST
from edgeprune.street.skin import Skin
from edgeprune.street.sprites import Sprite
from edgeprune.street.walls import Wall


@dataclass
class Thing:
    """Something upright at (x, s), world metres, drawn up to `seen` metres ahead of the camera. A vehicle is named by `model`
    and has a heading, radians. `key`: who it is, in every frame."""

    x: float
    s: float
    skin: Skin
    size: float = 1.0
    mirrored: bool = False
    sprite: Sprite | None = None
    model: str = ""
    heading: float = 0.0
    lit: float = 1.0
    seen: float = FARTHEST
    key: Key = ("", 0, 0)


@dataclass
class Chunk:
    """One stretch of street, CHUNK metres long."""

    ground: np.ndarray  # (ROWS, COLUMNS) materials
    walls: list[Wall] = field(default_factory=list)
    things: list[Thing] = field(default_factory=list)
