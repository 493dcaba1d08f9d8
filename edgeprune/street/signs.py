"""Street furniture: lamp posts, traffic lights, road signs, bollards. Part 1 is the pole, 2..6 the sign face."""

from __future__ import annotations

from functools import cache

import numpy as np

from edgeprune.street.skin import NEUTRAL, texels
from edgeprune.street.sprites import Sprite

POLE_PART, FACE, RIM, MARK, LAMP, BACK = range(1, 7)


class Board:
    """A drawing surface in metres: x to the right of the pole, y up from the ground."""

    def __init__(self, half_width: float, top: float, density: float) -> None:
        self.half_width, self.top = half_width, top
        rows, columns = int(top * density), max(3, int(2 * half_width * density))
        self.y = top - (np.arange(rows)[:, None] + 0.5) / density
        self.x = (np.arange(columns)[None, :] + 0.5) / density - half_width
        self.part = np.zeros((rows, columns), int)
        self.shade = np.full((rows, columns), float(NEUTRAL))

    def box(self, x0: float, x1: float, y0: float, y1: float, part: int, tone: float = 0.0) -> Board:
        """A rectangle."""
        inside = (self.x >= x0) & (self.x < x1) & (self.y >= y0) & (self.y < y1)
        return self.fill(inside, part, tone)

    def disc(self, x: float, y: float, radius: float, part: int, tone: float = 0.0) -> Board:
        """A disc."""
        return self.fill((self.x - x) ** 2 + (self.y - y) ** 2 < radius**2, part, tone)

    def triangle(self, y: float, size: float, part: int, down: bool) -> Board:
        """A triangle about (0, y), pointing up or down."""
        level = (self.y - y) / size * (-1 if down else 1)
        return self.fill((level > -0.5) & (np.abs(self.x) < (0.5 - level) * size * 0.6), part, 0.0)

    def fill(self, inside: np.ndarray, part: int, tone: float) -> Board:
        """Give the marked texels a part."""
        self.part[inside], self.shade[inside] = part, NEUTRAL + tone
        return self

    def sprite(self) -> Sprite:
        """The finished sprite."""
        lit = self.shade + np.where(self.part == POLE_PART, np.where(self.x < 0, 3, -3), 0)
        return Sprite(texels(self.part, lit), -self.half_width, self.half_width, 0.0, self.top, thin=True)


def post(half_width: float, top: float, thick: float, density: float = 34.0) -> Board:
    """A board with a pole of diameter `thick` up its middle."""
    return Board(half_width, top, density).box(-thick / 2, thick / 2, 0.0, top, POLE_PART)


@cache
def furniture() -> dict[str, list[Sprite]]:
    """All street furniture, drawn once per process."""
    kinds: dict[str, list[Sprite]] = {"lamp": [], "sign": [], "board": [], "light": [], "bollard": [], "mast": []}
    for top, arm in ((8.0, 1.6), (6.0, 0.9), (9.5, 2.2)):
        board = Board(arm + 0.5, top, 22.0).box(-0.09, 0.09, 0.0, top - 0.1, POLE_PART)
        board.box(-0.13, 0.13, 0.0, 1.4, POLE_PART, -2).box(0.0, arm, top - 0.2, top - 0.06, POLE_PART)
        kinds["lamp"].append(board.box(arm - 0.5, arm + 0.3, top - 0.26, top - 0.05, POLE_PART, 5).sprite())
    board = Board(0.3, 4.5, 30.0).box(-0.06, 0.06, 0.0, 4.2, POLE_PART).box(-0.25, 0.25, 3.9, 4.4, POLE_PART, 5)
    kinds["lamp"].append(board.sprite())
    for top in (2.3, 2.6, 3.0):
        head = top - 0.36
        kinds["sign"].append(
            post(0.36, top, 0.09)
            .disc(0, head, 0.34, RIM)
            .disc(0, head, 0.25, FACE)
            .box(-0.12, 0.12, head - 0.1, head + 0.1, MARK)
            .sprite()
        )
        kinds["sign"].append(
            post(0.42, top, 0.09)
            .triangle(head, 0.72, RIM, False)
            .triangle(head - 0.04, 0.42, FACE, False)
            .box(-0.03, 0.03, head - 0.16, head, MARK)
            .sprite()
        )
        kinds["sign"].append(
            post(0.36, top, 0.09)
            .box(-0.33, 0.33, head - 0.34, head + 0.34, FACE)
            .box(-0.2, 0.2, head - 0.05, head + 0.05, MARK)
            .box(-0.05, 0.05, head - 0.2, head + 0.2, MARK)
            .sprite()
        )
        two = post(0.36, top + 0.6, 0.09).disc(0, head + 0.6, 0.32, RIM).disc(0, head + 0.6, 0.24, FACE)
        kinds["sign"].append(
            two.box(-0.3, 0.3, head - 0.25, head + 0.12, BACK).box(-0.2, 0.2, head - 0.1, head, MARK).sprite()
        )
    kinds["sign"].append(post(0.42, 2.6, 0.09).triangle(2.2, 0.72, RIM, True).triangle(2.23, 0.42, FACE, True).sprite())
    kinds["sign"].append(post(0.36, 2.6, 0.09).disc(0, 2.25, 0.33, BACK).box(-0.06, 0.06, 2.05, 2.45, MARK).sprite())
    for wide, low, high in ((1.0, 1.6, 2.8), (1.5, 2.2, 3.6), (0.7, 0.9, 1.7), (0.8, 2.5, 3.6)):
        board = Board(wide, high, 30.0)
        for x in (-wide * 0.6, wide * 0.6):
            board.box(x - 0.06, x + 0.06, 0.0, high, POLE_PART)
        board.box(-wide, wide, low, high, RIM).box(-wide + 0.06, wide - 0.06, low + 0.06, high - 0.06, FACE)
        for k in range(3):
            y = low + (high - low) * (0.22 + 0.25 * k)
            board.box(-wide * 0.75, wide * (0.2 + 0.2 * k), y, y + (high - low) * 0.12, MARK)
        kinds["board"].append(board.sprite())
    for lit in range(3):  # red, amber, green
        for top in (3.2, 3.6):
            board = post(0.3, top, 0.12).box(-0.3, 0.3, top - 1.15, top, BACK, -2)
            for k in range(3):
                y = top - 0.22 - 0.35 * k
                board.disc(0, y, 0.12, LAMP if k == lit else BACK, 8 if k == lit else 3)
                if k == lit:
                    board.part[board.part == LAMP] = (RIM, LAMP, MARK)[lit]
            kinds["light"].append(board.box(-0.1, 0.1, 1.0, 1.25, POLE_PART, -3).sprite())
    for top, thick in ((1.0, 0.16), (0.85, 0.2), (1.1, 0.12)):
        board = Board(0.14, top, 60.0).box(-thick / 2, thick / 2, 0.0, top, POLE_PART)
        kinds["bollard"].append(board.box(-thick / 2, thick / 2, top - 0.3, top - 0.2, POLE_PART, 8).sprite())
    for top, thick in ((4.0, 0.1), (7.5, 0.22), (3.0, 0.14)):  # plain poles: telegraph poles, masts
        board = Board(0.5 if top > 7 else 0.12, top, 24.0).box(-thick / 2, thick / 2, 0.0, top, POLE_PART)
        if top > 7:
            board.box(-0.5, 0.5, top - 0.5, top - 0.38, POLE_PART)
        kinds["mast"].append(board.sprite())
    return kinds
