"""Trees, shrubs: sprites with ragged, see-through outlines. Parts: 1 foliage or twigs, 2 trunk."""

from __future__ import annotations

from functools import cache

import numpy as np

from edgeprune.street.skin import NEUTRAL, close_gaps, texels
from edgeprune.street.sprites import Sprite
from edgeprune.street.textures import fractal, leaves

SIZE = 192  # texels high


def broadleaf(rng: np.random.Generator) -> Sprite:
    """A crown of overlapping clumps on a trunk, sky showing through; 1 m high, to be scaled."""
    row, column = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    trunk_top = rng.uniform(0.55, 0.75)
    wide = rng.uniform(0.24, 0.38)
    density = np.full((SIZE, SIZE), -1.0, np.float32)
    light = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(26):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1) ** 0.5
        cy = 0.42 + np.sin(angle) * reach * (trunk_top - 0.20) * 0.7
        cx = 0.5 + np.cos(angle) * reach * wide
        radius = rng.uniform(0.07, 0.16)
        clump = 1.0 - ((row - cy) ** 2 + (column - cx) ** 2) / radius**2
        light = np.where(clump > density, (cy - row) / radius, light)
        density = np.maximum(density, clump)
    holes = fractal(rng, SIZE, 1.0)
    airy = rng.uniform(0.15, 0.45)
    crown = density + airy * holes > 0.25
    trunk = np.abs(column - 0.5 - 0.02 * np.sin(row * 9)) < 0.012 + 0.025 * np.maximum(row - 0.6, 0)
    trunk &= row > 0.35
    shade = NEUTRAL - 2 + leaves(rng, SIZE) * 0.8 + 5.0 * light - 6.0 * (row - 0.35)
    part = np.where(crown, 1, np.where(trunk, 2, 0))
    shade = np.where(crown, shade, NEUTRAL + np.where(column < 0.5, 3, -4))
    return Sprite(close_gaps(texels(part, shade), 3, 0.5), -0.5, 0.5, 0.0, 1.0)


def bare(rng: np.random.Generator, twigs: float) -> Sprite:
    """A winter tree: limbs that fork until they are twigs. `twigs` is how much haze of twigs fills the crown."""
    part = np.zeros((SIZE, SIZE), int)
    shade = np.full((SIZE, SIZE), float(NEUTRAL))

    def grow(y: float, x: float, angle: float, length: float, thick: float, order: int) -> None:
        steps = int(length * SIZE * 1.5) + 2
        bend = rng.normal(0.0, 0.25)
        for k in range(steps):
            here = angle + bend * k / steps
            y, x = y - np.cos(here) * length / steps, x + np.sin(here) * length / steps
            half = max(0.5, thick * SIZE * (1 - 0.4 * k / steps) / 2)
            r0, c0 = round(y * SIZE - half), round(x * SIZE - half)
            size = max(1, round(2 * half))
            if 0 <= r0 < SIZE - size and 0 <= c0 < SIZE - size:
                part[r0 : r0 + size, c0 : c0 + size] = 2 if order < 3 else 1
                shade[r0 : r0 + size, c0 : c0 + (size + 1) // 2] = NEUTRAL + 5 - order
        if order < 6:
            for side in (-1, 1) if order else (-1, 0, 1):
                grow(y, x, here + side * rng.uniform(0.2, 0.6), length * rng.uniform(0.6, 0.82), thick * 0.6, order + 1)

    grow(0.995, 0.5, 0.0, rng.uniform(0.22, 0.3), 0.035, 0)
    row, column = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    round_crown = 1.0 - ((row - 0.42) / 0.42) ** 2 - ((column - 0.5) / 0.42) ** 2
    # Twigs fill the crown's middle densely and its rim thinly.
    haze = (round_crown > 0.05) & (fractal(rng, SIZE, 0.7) > 2.1 - 1.9 * twigs * np.sqrt(np.maximum(round_crown, 0.0)))
    haze &= part == 0
    part[haze] = 1
    shade[haze] += 3 * fractal(rng, SIZE, 0.3)[haze]
    return Sprite(close_gaps(texels(part, shade), 5, 0.22), -0.5, 0.5, 0.0, 1.0)


def conifer(rng: np.random.Generator) -> Sprite:
    """A dark spire with drooping tiers."""
    row, column = np.mgrid[:SIZE, : SIZE // 2].astype(np.float32) / SIZE
    column -= 0.25
    edge = fractal(rng, SIZE, 0.6)[:, : SIZE // 2]
    half = (0.03 + 0.22 * row) * (1 + 0.15 * np.sin(row * rng.uniform(30, 60)))
    crown = (np.abs(column) + 0.025 * edge < half) & (row < 0.95)
    part = np.where(crown, 1, np.where((np.abs(column) < 0.015) & (row > 0.9), 2, 0))
    shade = NEUTRAL - 3 + leaves(rng, SIZE)[:, : SIZE // 2] - 14 * column
    return Sprite(texels(part, shade), -0.25, 0.25, 0.0, 1.0)


def shrub(rng: np.random.Generator) -> Sprite:
    """A bush, wider than high."""
    row, column = np.mgrid[:64, :128].astype(np.float32) / 64
    edge = fractal(rng, 128, 0.8)[:64]
    part = np.where(((column - 1.0) / 0.95) ** 2 + ((1.0 - row) / 0.9) ** 2 + 0.12 * edge < 0.95, 1, 0)
    shade = NEUTRAL - 2 + leaves(rng, 128)[:64] + 6 * (0.6 - row)
    return Sprite(texels(part, shade), -1.0, 1.0, 0.0, 1.0)


@cache
def forest() -> dict[str, list[Sprite]]:
    """All trees, drawn once per process; every sprite is 1 m high."""
    rng = np.random.default_rng(11)
    return {
        "broadleaf": [broadleaf(rng) for _ in range(10)],
        "bare": [bare(rng, twigs) for twigs in (0.1, 0.3, 0.5, 0.65, 0.8, 0.95)],
        "conifer": [conifer(rng) for _ in range(4)],
        "shrub": [shrub(rng) for _ in range(5)],
    }
