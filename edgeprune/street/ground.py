"""The ground: a material map per stretch of street, seen in inverse perspective.

A stretch of CHUNK metres is a map of ROWS x COLUMNS cells (s by l), 1/8 m by 1/16 m; each cell is a material number,
plus SHADOW where the sun does not reach. A ring of RING stretches serves as one map around the camera.
"""

from __future__ import annotations

import numpy as np

from edgeprune.street.camera import Camera
from edgeprune.street.classes import PAVEMENT, ROAD, TREE
from edgeprune.street.skin import NEUTRAL, RAMP, SHADES, Colour
from edgeprune.street.textures import courses, grain, leaves

CHUNK = 32.0  # metres
ROWS, COLUMNS, HALF = 256, 512, 16.0  # cells along, cells across, metres to either side
ALONG, ACROSS = ROWS / CHUNK, COLUMNS / (2 * HALF)  # cells per metre
RING = 8  # stretches; a power of two
SHADOW = 32  # added to a material number
LEVELS, LEVEL_METRES = 16, 8.0  # steps of distance for haze and fading texture

ASPHALT, PATCH, PALE_PATCH, WHITE, YELLOW, WORN, IRON, CRACK, LANE = range(9)
KERB, SLABS, FOOT_ASPHALT, FORECOURT, FOOT_PATCH, PAVERS, GRASS = range(9, 16)
LABELS = np.full(32, ROAD, np.uint8)
LABELS[[KERB, SLABS, FOOT_ASPHALT, FORECOURT, FOOT_PATCH, PAVERS]] = PAVEMENT
LABELS[GRASS] = TREE
ROUGH, SLAB, TURF, BRICK = range(4)  # textures
TEXTURE = np.full(64, ROUGH, np.int32)
for _material, _texture in ((SLABS, SLAB), (GRASS, TURF), (PAVERS, BRICK)):
    TEXTURE[[_material, _material + SHADOW]] = _texture
TEXTURE_SIZE = 256  # texels along a side, 32 to the metre


def ground_textures() -> np.ndarray:
    """Flat bank of the ground's shade textures, uint8 0..31."""
    rng = np.random.default_rng(3)
    size = TEXTURE_SIZE
    stack = [
        grain(rng, size),
        courses(rng, size, 16, 24, 4.0, 0.9) * 0.8,
        0.8 * leaves(rng, size),
        courses(rng, size, 4, 8, 2.5, 1.2),
    ]
    return np.clip(np.stack(stack) + NEUTRAL, 0, SHADES - 1).astype(np.uint8).ravel()


TEXTURES = ground_textures()


def colour_tables(
    colours: dict[int, Colour], gain: np.ndarray, shade_gain: np.ndarray, haze: np.ndarray, haze_range: float,
    tone: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Packed pixels by (level of distance, material and shadow, shade), flat, uint32."""
    base = np.zeros((32, 3), np.float32)
    for material, colour in colours.items():
        base[material] = colour
    lit = np.concatenate([base * gain, base * shade_gain])  # (64, 3)
    far = (np.arange(LEVELS, dtype=np.float32) + 0.5) * LEVEL_METRES
    # Texture finer than a pixel averages out: contrast falls with distance.
    contrast = 1.0 / (1.0 + far / 18.0)
    ramp = 1.0 + (RAMP[None, :] - 1.0) * contrast[:, None]  # (level, shade)
    clear = np.exp(-far / haze_range)[:, None, None, None]
    colour = (lit[None, :, None, :] * ramp[:, None, :, None]) * clear + haze * (1.0 - clear)
    packed = np.empty((LEVELS, 64, SHADES, 4), np.uint8)
    packed[..., :3] = tone[np.clip(colour, 0, 255).astype(np.uint8)]
    packed[..., 3] = np.concatenate([LABELS, LABELS])[None, :, None]
    return packed.view(np.uint32).ravel()


def draw_ground(canvas: np.ndarray, camera: Camera, ring: np.ndarray, bend: np.ndarray, tables: np.ndarray) -> None:
    """Fill the canvas below the horizon.

    ring: (RING * ROWS * COLUMNS,) materials, stretch k at slot k % RING; bend: centre line's world x, metres, at
    every 1/ALONG m from the camera's s onwards; tables: from `colour_tables`.
    """
    columns = np.arange(camera.columns, dtype=np.float32) + np.float32(0.5)
    horizon = camera.horizon_at(columns)
    first = max(0, int(np.floor(horizon.min())))
    rows = np.arange(first, camera.rows, dtype=np.float32)[:, None] + np.float32(0.5)
    below = rows - horizon.astype(np.float32)
    np.maximum(below, camera.focal * camera.height / 190.0, out=below)
    z = np.float32(camera.focal * camera.height) / below
    slope = ((columns - camera.columns / 2) / camera.focal).astype(np.float32)
    cos, sin = np.float32(np.cos(camera.yaw)), np.float32(np.sin(camera.yaw))
    ahead = z * ((cos - slope * sin) * np.float32(ALONG))
    step = ahead.astype(np.int32)
    np.clip(step, 0, len(bend) - 1, out=step)
    # Cells across, from the left edge of the map.
    lean = (bend[8] - bend[0]) * ALONG / 8  # metres sideways per metre ahead
    straight = lean * np.arange(len(bend)) / ALONG
    centre = ((camera.x - bend + straight + HALF) * ACROSS).astype(np.float32)
    across = z * ((slope * cos + sin) * np.float32(ACROSS))
    # The bend's slope at the camera goes in exactly, per pixel; what is left of the bend is small enough per cell.
    across -= ahead * np.float32(lean * ACROSS / ALONG)
    across += centre.take(step)
    cell = across.astype(np.int32)
    np.clip(cell, 0, COLUMNS - 1, out=cell)
    origin = int(np.floor(camera.s * ALONG))
    step += origin % (RING * ROWS)
    step &= RING * ROWS - 1
    step *= COLUMNS
    step += cell
    material = ring.take(step).astype(np.int32)
    # Texture coordinates, 32 texels to the metre, continuing outside the map.
    across *= np.float32(32 / ACROSS)
    ahead *= np.float32(32 / ALONG)
    ahead += np.float32((camera.s * 32.0) % TEXTURE_SIZE)
    texel = across.astype(np.int32)
    texel &= TEXTURE_SIZE - 1
    along = ahead.astype(np.int32)
    along &= TEXTURE_SIZE - 1
    along <<= 8
    texel += along
    texel += (TEXTURE << 16).take(material)
    shade = TEXTURES.take(texel)
    z *= np.float32(1.0 / LEVEL_METRES)
    level = z.astype(np.int32)
    np.minimum(level, LEVELS - 1, out=level)
    level <<= 6
    level += material
    level <<= 5
    level += shade
    np.copyto(canvas[first:], tables.take(level), where=rows > horizon)
