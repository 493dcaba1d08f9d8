"""Sprites: indexed textures of things that stand upright, with reduced copies, and how they are drawn."""

from __future__ import annotations

import numpy as np

from edgeprune.street.owners import Key, Owners
from edgeprune.street.skin import GAP, paint


class Sprite:
    """An indexed texture and the rectangle it covers, in metres around the point where the thing stands."""

    __slots__ = ("bottom", "gaps", "left", "levels", "right", "thin", "top")

    def __init__(
        self, image: np.ndarray, left: float, right: float, bottom: float, top: float, thin: bool = False
    ) -> None:
        self.left, self.right, self.bottom, self.top, self.thin = left, right, bottom, top, thin
        self.gaps = bool((image == GAP).any())
        self.levels = [np.ascontiguousarray(image)]
        while min(self.levels[-1].shape) >= 6 and max(self.levels[-1].shape) >= 12:
            self.levels.append(halve(self.levels[-1], thin))

    def level_for(self, height_px: float) -> np.ndarray:
        """The copy to sample for a drawn height: the smallest one that is still finer than the screen, or, for things
        with thin parts, the first one that is coarser, so that no sampling step jumps over a pole."""
        chosen = self.levels[0]
        for level in self.levels[1:]:
            if self.thin and chosen.shape[0] <= height_px:
                break
            if not self.thin and level.shape[0] < height_px:
                break
            chosen = level
        return chosen


def halve(image: np.ndarray, thin: bool) -> np.ndarray:
    """Half-size copy. Thin things keep any opaque texel of each 2x2 block, others the majority's."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    block = np.stack([image[r:height:2, c:width:2] for r in (0, 1) for c in (0, 1)])
    if thin:
        return np.ascontiguousarray(block.max(axis=0))
    return np.ascontiguousarray(np.sort(block, axis=0)[2])


def blit(
    canvas: np.ndarray, depth: np.ndarray, sprite: Sprite, column: float, row: float, scale: float, distance: float,
    table: np.ndarray, mirrored: bool, owners: Owners | None, key: Key,
) -> None:  # fmt: skip
    """Draw a sprite standing at pixel (row, column), `scale` pixels per metre, hidden where `depth` is nearer.

    canvas: (H, W) uint32 packed pixels; depth: (H, W) float32 metres of the walls; table: (256,) packed pixels.
    owners: where they are asked for, they are told that these are pixels of the thing `key`.
    """
    left, right = (-sprite.right, -sprite.left) if mirrored else (sprite.left, sprite.right)
    x0, width = column + left * scale, (right - left) * scale
    y0, height = row - sprite.top * scale, (sprite.top - sprite.bottom) * scale
    c0, c1 = max(0, int(np.ceil(x0 - 0.5))), min(canvas.shape[1], int(np.ceil(x0 + width - 0.5)))
    r0, r1 = max(0, int(np.ceil(y0 - 0.5))), min(canvas.shape[0], int(np.ceil(y0 + height - 0.5)))
    if c0 >= c1 or r0 >= r1:
        return
    level = sprite.level_for(height)
    rows, columns = level.shape
    source_columns = ((np.arange(c0, c1) + (0.5 - x0)) * (columns / width)).astype(np.int32)
    if mirrored:
        source_columns = columns - 1 - source_columns
    source_rows = ((np.arange(r0, r1) + (0.5 - y0)) * (rows / height)).astype(np.int32)
    source_rows *= columns
    indexed = level.ravel().take(source_rows[:, None] + source_columns, mode="clip")
    visible = indexed != 0
    visible &= depth[r0:r1, c0:c1] > distance
    if owners is not None:
        owners.draw(key, table, indexed, visible, r0, c0)
    paint(canvas[r0:r1, c0:c1], table.take(indexed), indexed, visible, sprite.gaps)
