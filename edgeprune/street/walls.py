"""Upright planes: facades, gables, hedges, fences. Drawn column by column from a bank of square tiles.

A wall is a grid of tiles, `storeys` high and `bays` long. Within its columns the distance is known per column, so a
pixel's place on the wall costs one multiply and one add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.street.camera import NEAR, Camera
from edgeprune.street.skin import Skin, paint

TILE = 128  # texels along a side of a tile; row 0 is its bottom


@dataclass(frozen=True)
class Wall:
    """An upright plane from (x0, s0) to (x1, s1), world metres; `grid` (storeys, bays) holds tile numbers."""

    x0: float
    s0: float
    x1: float
    s1: float
    storey: float  # metres
    grid: np.ndarray
    skin: Skin
    lit: float = 1.0  # how much light falls on it
    base: float = 0.0  # height of its foot, metres
    solid: bool = True  # hides the things behind it


def tile_levels(tiles: np.ndarray) -> list[np.ndarray]:
    """Flat copies of the tile bank (T, TILE, TILE) at full, half, quarter and eighth size."""
    levels = [tiles]
    for _ in range(3):
        last = levels[-1]
        block = np.stack([last[:, r::2, c::2] for r in (0, 1) for c in (0, 1)])
        levels.append(np.sort(block, axis=0)[2])
    return [np.ascontiguousarray(level).ravel() for level in levels]


def draw_wall(
    canvas: np.ndarray, depth: np.ndarray, camera: Camera, wall: Wall, ends: tuple[float, float, float, float],
    levels: list[np.ndarray], table: np.ndarray,
) -> None:  # fmt: skip
    """Draw `wall`, whose ends lie at camera coordinates (x, z, x, z); solid walls also write their distance."""
    xa, za, xb, zb = ends
    if za < NEAR and zb < NEAR:
        return
    dx, dz = xb - xa, zb - za
    # Clip to the near plane before projecting: a point behind the camera has no column.
    ca, cb = (0.0, 1.0)
    if za < NEAR:
        ca = (NEAR - za) / dz
    if zb < NEAR:
        cb = (NEAR - za) / dz
    focal, centre = camera.focal, camera.columns / 2
    pa = centre + focal * (xa + ca * dx) / (za + ca * dz)
    pb = centre + focal * (xa + cb * dx) / (za + cb * dz)
    c0, c1 = max(0, int(np.ceil(min(pa, pb) - 0.5))), min(camera.columns, int(np.ceil(max(pa, pb) - 0.5)))
    if c0 >= c1:
        return
    columns = np.arange(c0, c1, dtype=np.float32)
    slope = (columns + (0.5 - centre)) / focal
    along = (slope * za - xa) / (dx - slope * dz)  # 0..1 from one end of the wall to the other
    distance = za + along * dz
    nearest = float(min(distance[0], distance[-1]))
    storeys, bays = wall.grid.shape
    # One texel should cover about one pixel or more; coarser copies of the tiles for walls far away.
    density = TILE * nearest / (focal * wall.storey)
    shift = 7 - min(3, max(0, int(np.log2(max(density, 1.0)) + 0.3)))
    size = 1 << shift
    tile_column = (along * (bays * size)).astype(np.int32)
    np.clip(tile_column, 0, bays * size - 1, out=tile_column)
    bay, tile_column = tile_column >> shift, tile_column & (size - 1)

    step = distance * (size / (focal * wall.storey))  # texels per pixel row
    horizon = camera.horizon_at(columns + 0.5)
    foot = (camera.height - wall.base) * (size / wall.storey) + (horizon - 0.5) * step  # texel height at row 0
    r0 = max(0, int(np.floor(((foot - storeys * size) / step).min())))
    r1 = min(camera.rows, int(np.ceil((foot / step).max())) + 1)
    if r0 >= r1:
        return
    height = (foot - np.arange(r0, r1, dtype=np.float32)[:, None] * step).astype(np.int32)
    visible = height.view(np.uint32) < storeys * size
    tile = (wall.grid.ravel() << (2 * shift)).astype(np.int32).take((height >> shift) * bays + bay, mode="clip")
    height &= size - 1
    height <<= shift
    tile += height
    tile += tile_column
    indexed = levels[7 - shift].take(tile)
    visible &= indexed != 0
    if not wall.solid:
        visible &= depth[r0:r1, c0:c1] > distance
    if wall.solid:
        np.copyto(depth[r0:r1, c0:c1], distance.astype(np.float32), where=visible)
    paint(canvas[r0:r1, c0:c1], table.take(indexed), indexed, visible, not wall.solid)
