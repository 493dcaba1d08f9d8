"""Paves one stretch: carriageway, markings, kerbs, pavements, verges, side roads, shadows."""

from __future__ import annotations

import random
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.street import ground as g
from edgeprune.street.textures import fractal

if TYPE_CHECKING:
    from edgeprune.street.world import World


@cache
def dapple() -> np.ndarray:
    """Where the light falls through foliage, (256, 256) bool."""
    return fractal(np.random.default_rng(9), 256, 1.2) > 0.1


def pave(
    world: World,
    start: float,
    rng: random.Random,
    mouths: dict[int, tuple[float, float] | None],
    verge: dict[int, bool],
    shadows: list[tuple[float, float, float, float]],
) -> np.ndarray:
    """The material map (ROWS, COLUMNS) of the stretch that begins at `start` metres.

    mouths: side road by side (-1 left, 1 right), metres within the stretch; shadows: (from, to, facade line beyond the
    kerb with the side's sign, length) of buildings between the street and the sun.
    """
    s = np.arange(g.ROWS) / g.ALONG
    kerb = world.kerb_along(start + s)
    l = (np.arange(g.COLUMNS) + 0.5) / g.ACROSS - g.HALF
    middle = g.COLUMNS // 2
    foot = rng.choice((g.SLABS, g.SLABS, g.FOOT_ASPHALT, g.FOOT_ASPHALT, g.PAVERS))
    cells = np.full((g.ROWS, g.COLUMNS), g.ASPHALT, np.uint8)
    outside = rng.choice((g.GRASS, g.FORECOURT, foot))
    for side in (-1, 1):
        edge = kerb.copy()
        mouth = mouths[side]
        if mouth is not None:
            # Rounded corners: the kerb swings out over the last metres before the side road.
            radius = 3.0
            gap = np.clip(np.maximum(mouth[0] - s, s - mouth[1]), 0.0, radius)
            edge += radius - np.sqrt(radius**2 - (radius - gap) ** 2)
            edge[(s > mouth[0]) & (s < mouth[1])] = 99.0
        half = slice(0, middle) if side < 0 else slice(middle, None)
        flank = cells[:, half]
        beyond = (side * l[None, half] - edge[:, None]).astype(np.float32)
        flank[beyond > 0] = g.KERB
        flank[beyond > 0.16] = foot
        if verge[side]:
            flank[(beyond > 0.3) & (beyond < world.pavement * 0.5)] = g.GRASS
        flank[beyond > world.pavement] = outside
        _scatter(flank, rng, beyond, g.FOOT_PATCH, 2)
    _mark(world, cells, rng, kerb, s, l, mouths)
    for _ in range(rng.randint(0, 4)):  # repairs, manholes, cracks
        _rectangle(cells, rng, rng.choice((g.PATCH, g.PALE_PATCH)), rng.uniform(1.0, 9.0), rng.uniform(0.4, 2.2), kerb)
    for _ in range(rng.randint(0, 2)):
        _rectangle(cells, rng, g.IRON, 0.6, 0.6, kerb)
    for _ in range(rng.randint(0, 2)):
        row, column = rng.randrange(g.ROWS), rng.uniform(-2.5, 2.5)
        for step in range(rng.randint(10, 90)):
            column += rng.gauss(0.0, 0.06)
            r, c = (row + step) % g.ROWS, int((column + g.HALF) * g.ACROSS)
            if cells[r, c] == g.ASPHALT:
                cells[r, c] = g.CRACK
    if world.light.casts_shadows:
        _shade(cells, rng, kerb, shadows, world.light.sun_side)
    return cells


def _scatter(cells: np.ndarray, rng: random.Random, beyond: np.ndarray, material: int, count: int) -> None:
    """A few rectangular repairs on what lies beyond the kerb."""
    for _ in range(rng.randint(0, count)):
        a, width = rng.randrange(g.ROWS), rng.randint(8, 40)
        near, far = sorted((rng.uniform(0.2, 3.0), rng.uniform(0.2, 3.0)))
        window = beyond[a : a + width]
        block = cells[a : a + width]
        block[(window > near) & (window < far) & (block != g.GRASS)] = material


def _rectangle(
    cells: np.ndarray, rng: random.Random, material: int, length: float, width: float, kerb: np.ndarray
) -> None:
    """A rectangle of another surface within the carriageway."""
    row = rng.randrange(g.ROWS)
    left = rng.uniform(-kerb[row] + 0.1, kerb[row] - width - 0.1)
    c0 = int((left + g.HALF) * g.ACROSS)
    block = cells[row : row + int(length * g.ALONG), c0 : c0 + int(width * g.ACROSS)]
    block[block == g.ASPHALT] = material


def _mark(
    world: World,
    cells: np.ndarray,
    rng: random.Random,
    kerb: np.ndarray,
    s: np.ndarray,
    l: np.ndarray,
    mouths: dict[int, tuple[float, float] | None],
) -> None:
    """Lane markings. Most end where a side road joins."""
    style = world.rng(int((s[0] + 1) // 160), 7)
    paint = g.WORN if rng.random() < 0.3 else g.WHITE
    middle = int(g.HALF * g.ACROSS)
    period, dash = style.choice(((6.0, 4.0), (6.0, 2.0), (4.0, 2.0), (9.0, 3.0)))
    dashed = np.flatnonzero(s % period < dash)
    centre = style.choice(("dashed", "dashed", "double", "none"))
    if centre == "dashed":
        cells[dashed[:, None], np.arange(middle - 1, middle + 1)] = paint
    elif centre == "double":
        cells[:, [middle - 3, middle - 2, middle + 1, middle + 2]] = paint
    edge = style.choice(("none", "none", "double yellow", "white", "lane"))
    columns = np.arange(g.COLUMNS)
    if edge != "none":
        for side in (-1, 1):
            half = slice(0, middle) if side < 0 else slice(middle, None)
            flank = cells[:, half]
            inset = (kerb[:, None] - side * l[None, half]).astype(np.float32)
            if edge == "double yellow":
                flank[((inset > 0.25) & (inset < 0.33)) | ((inset > 0.42) & (inset < 0.5))] = g.YELLOW
            elif edge == "white":
                flank[(inset > 0.4) & (inset < 0.5)] = paint
            elif world.half_road > 4.0:
                flank[(inset > 0.0) & (inset < 1.4)] = g.LANE
                flank[(inset > 1.4) & (inset < 1.5)] = paint
    if world.half_road > 5.0 and centre != "none":
        for offset in (-0.5, 0.5):
            lane = int((g.HALF + offset * world.half_road) * g.ACROSS)
            cells[dashed[:, None], np.arange(lane - 1, lane + 1)] = paint
    road = np.abs(l)[None, :] < kerb[:, None] - 0.2
    extra = rng.random()
    if any(mouths.values()):
        mouth = next(span for span in mouths.values() if span)
        crossing = (s > mouth[0]) & (s < mouth[1])
        if extra < 0.35:  # yellow box junction
            lattice = (((columns[None] + 2 * np.arange(g.ROWS)[:, None]) % 56) < 3) | (
                ((columns[None] - 2 * np.arange(g.ROWS)[:, None]) % 56) < 3
            )
            cells[lattice & road & crossing[:, None]] = g.YELLOW
        for side, span in mouths.items():
            if span is None:
                continue
            line = (side * l[None] > kerb[:, None] - 0.05) & (side * l[None] < kerb[:, None] + 0.2)
            broken = ((s > span[0]) & (s < span[1]) & (s % 1.0 < 0.6))[:, None]
            cells[line & broken] = paint
            far = (side * l[None] > kerb[:, None] + 4.0) & (np.abs(s - sum(span) / 2) < 0.08)[:, None]
            cells[far] = paint
    elif extra < 0.10:  # zebra crossing
        row = rng.randrange(20, g.ROWS - 40)
        stripe = (np.floor(l / 0.55) % 2 == 0)[None, :] & road[row : row + 24]
        cells[row : row + 24][stripe] = paint
    elif extra < 0.2:  # stop line and hatching
        row = rng.randrange(20, g.ROWS - 40)
        cells[row : row + 3][road[row : row + 3]] = paint
    elif extra < 0.34:  # an arrow or lettering in one lane
        row, lane = rng.randrange(10, g.ROWS - 50), int((g.HALF + rng.choice((-0.5, 0.5)) * world.half_road) * g.ACROSS)
        cells[row : row + 24, lane - 1 : lane + 2] = paint
        for step in range(8):
            cells[row + 24 + step, lane - 7 + step : lane + 8 - step] = paint
    elif extra < 0.42:
        for row in range(10, g.ROWS - 20, 16):
            cells[row : row + 3, middle - 6 : middle + 6] = paint


def _shade(
    cells: np.ndarray, rng: random.Random, kerb: np.ndarray, shadows: list[tuple[float, float, float, float]], sun: int
) -> None:
    """Shadows of the buildings on the sun's side and of trees."""
    slant = rng.uniform(0.4, 1.3)
    for a, b, line, length in shadows:
        r0, r1 = int(a * g.ALONG), int(b * g.ALONG)
        wall = sun * kerb[min(r0, g.ROWS - 1)] + line
        tip = wall - sun * length * slant
        c0, c1 = sorted(int(np.clip((v + g.HALF) * g.ACROSS, 0, g.COLUMNS)) for v in (wall, tip))
        if sun < 0:
            c0 = 0
        else:
            c1 = g.COLUMNS
        cells[r0:r1, c0:c1] |= g.SHADOW
    for _ in range(rng.randint(0, 3)):
        r0, c0 = rng.randrange(g.ROWS - 40), rng.randrange(60, g.COLUMNS - 160)
        r1, c1 = min(g.ROWS, r0 + rng.randint(24, 70)), c0 + rng.randint(50, 150)
        y, x = np.mgrid[-1 : 1 : (r1 - r0) * 1j, -1 : 1 : (c1 - c0) * 1j]
        patch = dapple()[: r1 - r0, : c1 - c0] & (y * y + x * x < 1.0)
        cells[r0:r1, c0:c1][patch] |= g.SHADOW
