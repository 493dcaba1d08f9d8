"""The bank of wall tiles: one storey high, one bay wide, as indexed texels.

Parts of a building tile: 1 wall, 2 trim, 3 glass, 4 dark (doors, openings), 5 roof, 6 shop front, 7 second wall colour.
Parts of a fence tile: 1 bars or boards, 2 posts, 3 coping; of a hedge: 1 foliage.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from edgeprune.street.skin import GAP, NEUTRAL, texels
from edgeprune.street.textures import courses, fractal, grain, leaves
from edgeprune.street.walls import TILE, tile_levels

WALL, TRIM, GLASS, DARK, ROOF, SHOP, SECOND = range(1, 8)


class Bank:
    """Tiles and where each kind of them is: `kinds[name]` lists tile numbers."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(20240607)
        self.tiles: list[np.ndarray] = []
        self.kinds: dict[str, list[int]] = {}
        self.masonry = {
            "brick": courses(self.rng, TILE, 4, 10, 4.0, 1.6),
            "stone": courses(self.rng, TILE, 16, 28, 3.0, 1.2),
            "plaster": 0.6 * grain(self.rng, TILE),
            "concrete": courses(self.rng, TILE, 64, 64, 4.0, 0.5),
        }
        self.foliage = leaves(self.rng, TILE)
        self._buildings()
        self._fences()
        self.levels = tile_levels(np.stack(self.tiles))

    def add(self, kind: str, part: np.ndarray, shade: np.ndarray, see_through: bool = False) -> None:
        """File a tile drawn with row 0 on top; the openings of a `see_through` one count as part of the thing."""
        self.kinds.setdefault(kind, []).append(len(self.tiles))
        tile = texels(part, shade)
        if see_through:
            tile[tile == 0] = GAP
        self.tiles.append(tile[::-1])

    def blank(self, masonry: str) -> tuple[np.ndarray, np.ndarray]:
        """Part and shade maps of a plain wall."""
        return np.full((TILE, TILE), WALL), self.masonry[masonry] + NEUTRAL

    def window(
        self, part: np.ndarray, shade: np.ndarray, box: tuple[int, int, int, int], panes: tuple[int, int]
    ) -> None:
        """A framed window over rows and columns `box` = top, bottom, left, right, with `panes` down and across."""
        top, bottom, left, right = box
        part[top - 3 : bottom + 5, left - 3 : right + 3] = TRIM
        shade[top - 3 : bottom + 5, left - 3 : right + 3] = NEUTRAL
        shade[bottom + 4 : bottom + 7, left - 4 : right + 4] -= 6  # shadow under the sill
        part[top:bottom, left:right] = GLASS
        reflection = fractal(self.rng, TILE, 1.4)[top:bottom, left:right] * 3.0
        shade[top:bottom, left:right] = NEUTRAL + reflection + self.rng.normal(0.0, 3.0)
        shade[top : top + 4, left:right] -= 5  # the lintel's shadow on the glass
        for k in range(1, panes[0]):
            row = top + (bottom - top) * k // panes[0]
            part[row - 1 : row + 1, left:right], shade[row - 1 : row + 1, left:right] = TRIM, NEUTRAL - 1
        for k in range(1, panes[1]):
            column = left + (right - left) * k // panes[1]
            part[top:bottom, column - 1 : column + 1], shade[top:bottom, column - 1 : column + 1] = TRIM, NEUTRAL - 1

    def _buildings(self) -> None:
        shapes = [
            ((22, 92), ((40, 88),), (2, 1)),
            ((30, 90), ((22, 106),), (1, 3)),
            ((26, 92), ((14, 54), (74, 114)), (2, 2)),
            ((40, 84), ((44, 84),), (1, 2)),
            ((18, 104), ((30, 98),), (3, 3)),
        ]
        for masonry in self.masonry:
            for (top, bottom), spans, panes in shapes:
                part, shade = self.blank(masonry)
                for left, right in spans:
                    self.window(part, shade, (top, bottom, left, right), panes)
                if masonry in ("stone", "concrete"):
                    part[118:124], shade[118:124] = TRIM, NEUTRAL + 1
                self.add(f"{masonry} window", part, shade)
            self.add(f"{masonry} plain", *self.blank(masonry))
            part, shade = self.blank(masonry)
            self.window(part, shade, (34, 96, 70, 118), (2, 1))
            part[30:, 14:50], shade[30:, 14:50] = TRIM, NEUTRAL
            part[36:, 18:46], shade[36:, 18:46] = DARK, NEUTRAL + 2
            shade[70:72, 18:46] -= 5
            self.add(f"{masonry} door", part, shade)
            part, shade = self.blank(masonry)
            part[36:, 12:116], shade[36:, 12:116] = DARK, NEUTRAL
            shade[36:, 12:116] -= (np.arange(92) % 10 < 2)[:, None] * 5
            self.add(f"{masonry} garage", part, shade)
            # Skyline tiles: their empty part is transparent.
            part, shade = self.blank(masonry)
            part[:118] = 0
            part[116:120], shade[116:120] = TRIM, NEUTRAL
            self.add(f"{masonry} parapet", part, shade)
            part, shade = self.blank(masonry)
            row, column = np.mgrid[:TILE, :TILE]
            part[row < np.abs(column - TILE // 2) * 2] = 0
            self.add(f"{masonry} gable", part, shade)
        for k in range(4):  # shop fronts: display glass below a board, with clutter inside
            part, shade = self.blank("plaster")
            part[:28], shade[:28] = SHOP, NEUTRAL + self.masonry["plaster"][:28] * 0.5
            for left in range(10, 112, 6):  # lettering
                if self.rng.random() < 0.7:
                    part[10:20, left : left + 4] = TRIM
            part[28:], shade[28:] = SHOP, NEUTRAL - 3
            self.window(part, shade, (34, 112, 6, 122), (1, 2 + k % 3))
            clutter = fractal(self.rng, TILE, 1.1)
            inside = part == GLASS
            shade[inside] += (clutter * 3.0)[inside]
            part[inside & (clutter > 1.7)] = SECOND
            if k % 2:
                part[38:, 86:118], shade[38:, 86:118] = DARK, NEUTRAL + 3
            if k == 3:
                part[26:48], shade[26:48] = SECOND, NEUTRAL + (np.arange(TILE) // 8 % 2)[None] * 5
            self.add("shop", part, shade)
        for panes in ((1, 2), (2, 2), (3, 4)):  # curtain walls
            part, shade = np.full((TILE, TILE), TRIM), np.full((TILE, TILE), NEUTRAL, np.float32)
            self.window(part, shade, (6, 118, 5, 123), panes)
            if panes[0] > 1:
                band = slice(96, 118)
                part[band], shade[band] = SECOND, NEUTRAL + self.masonry["plaster"][band] * 0.6
            self.add("curtain", part, shade)
        slates = courses(self.rng, TILE, 8, 10, 3.0, 1.3) + NEUTRAL
        slope = np.linspace(3.0, -1.0, TILE)[:, None]
        for k in range(4):
            part, shade = np.full((TILE, TILE), ROOF), slates + slope
            part[:4], shade[:4] = ROOF, NEUTRAL - 5
            part[122:], shade[122:] = TRIM, NEUTRAL - 2
            part[: 20 + 14 * k] = 0
            if k == 1:
                part[50:110, 40:88], shade[50:110, 40:88] = WALL, NEUTRAL
                self.window(part, shade, (60, 100, 50, 78), (2, 2))
                part[44:52, 36:92], shade[44:52, 36:92] = ROOF, NEUTRAL - 4
            self.add("roof", part, shade)
        for k in range(3):  # chimney stacks above the ridge, some with pots or an aerial
            part, shade = self.blank("brick")
            left = 30 + 25 * k
            part[:, :left], part[:, left + 34 :], part[:60] = 0, 0, 0
            part[60:66, left - 2 : left + 36], shade[60:66, left - 2 : left + 36] = TRIM, NEUTRAL - 3
            for pot in (left + 4, left + 20):
                part[44:60, pot : pot + 9], shade[44:60, pot : pot + 9] = ROOF, NEUTRAL
            if k == 1:
                part[10:44, left + 16 : left + 18] = DARK
                part[14:16, left + 4 : left + 30] = DARK
            self.add("chimney", part, shade)
        self.add("empty", np.zeros((TILE, TILE), int), np.zeros((TILE, TILE)))

    def _fences(self) -> None:
        row, column = np.mgrid[:TILE, :TILE]
        flat = np.full((TILE, TILE), float(NEUTRAL))
        post = (column < 6) | (column >= TILE - 6)
        rail = ((row >= 8) & (row < 16)) | ((row >= 100) & (row < 110))
        for pitch, width in ((12, 4), (18, 4), (9, 4)):  # railings and guard rails with bars
            part = np.where(column % pitch < width, 1, 0)
            part[rail] = 1
            part[post] = 2
            part[:6] = np.where(pitch == 18, part[:6] * (column[:6] % pitch < width), part[:6] * post[:6])
            self.add("railing", part, flat + np.where(column % pitch == 0, 4, 0), True)
        part = np.where(post | (column // 2 == 32), 2, 0)
        for top in (20, 62):  # crash barrier: two bands on posts
            part[top : top + 26] = 1
        shade = flat + self.masonry["plaster"] + np.where((row - 20) % 42 < 6, 5, -1)
        self.add("barrier", part, shade, True)
        boards = flat + np.where(column % 16 == 0, -9, 0) + self.masonry["plaster"] * 0.8 + (column // 16 * 7 % 5) - 2
        part = np.ones((TILE, TILE), int)
        part[post & (row > 0)] = 2
        self.add("boards", part, boards)
        part = np.where((column + row) % 12 < 2, 1, np.where((column - row) % 12 < 2, 1, 0))
        part[post | (row < 4)] = 2
        self.add("mesh", part, flat, True)
        for masonry in ("brick", "stone", "plaster", "concrete"):
            part = np.ones((TILE, TILE), int)
            part[:10] = 3
            shade = self.masonry[masonry] + NEUTRAL
            shade[10:14] -= 5
            self.add("low wall", part, shade)
        part = np.ones((TILE, TILE), int)  # hoarding with posters
        part[10:96, 8:60], part[20:100, 72:118] = 3, 2
        self.add("hoarding", part, self.masonry["plaster"] * 1.2 + NEUTRAL)
        for roughness in (6.0, 14.0):
            ragged = 14 + roughness * np.abs(fractal(self.rng, TILE, 0.8)[0])
            part = np.where(row > ragged[None], 1, 0)
            self.add("hedge", part, NEUTRAL - 2 + self.foliage + np.linspace(4, -5, TILE)[:, None])


@cache
def bank() -> Bank:
    """The bank, drawn once per process."""
    return Bank()
