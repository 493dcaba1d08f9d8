"""Cars, vans, buses, lorries: solids swept from a side profile, turned into sprites per view angle.

Body frame: a metres forward, b metres to the right, y metres up; the origin lies on the ground below the centre.
Parts: 1 body, 2 glass, 3 black (tyres, sills), 4 rear lights, 5 bumpers and hubs, 6 plates and head lights, 7 second
paint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from edgeprune.street.skin import NEUTRAL, texels
from edgeprune.street.sprites import Sprite
from edgeprune.street.textures import grain

BODY, GLASS, BLACK, REAR_LIGHT, BUMPER, PLATE, SECOND = range(1, 8)
EYE = 1.4  # metres; the camera height that sprites are drawn for
VIEW_STEP = 7.5  # degrees between the stored view angles
NEAR_VIEW, FAR_VIEW = 7.0, 22.0  # metres; a sprite's perspective is one of these


@dataclass(frozen=True)
class Model:
    """A vehicle's shape. `profile` lists (share of length from the rear, height in metres)."""

    length: float
    width: float
    profile: tuple[tuple[float, float], ...]
    belt: float  # height where side windows begin
    windows: tuple[float, float]  # share of length that has side windows
    pillar: float  # metres between window pillars
    lean: float  # how much the sides lean in above the belt, metres per metre
    tiers: int = 1  # rows of windows
    box_from: float = 0.0  # share of the length from the rear that is a plain box
    density: float = 52.0  # texels per metre


MODELS: dict[str, Model] = {
    "hatchback": Model(
        3.9,
        1.68,
        ((0, 0.95), (0.05, 1.25), (0.1, 1.42), (0.5, 1.46), (0.73, 0.98), (0.97, 0.78), (1, 0.6)),
        0.93,
        (0.08, 0.7),
        1.05,
        0.3,
    ),
    "saloon": Model(
        4.5,
        1.75,
        ((0, 0.88), (0.02, 0.98), (0.16, 1.0), (0.28, 1.38), (0.56, 1.43), (0.73, 0.98), (0.97, 0.76), (1, 0.6)),
        0.95,
        (0.2, 0.7),
        1.0,
        0.3,
    ),
    "estate": Model(
        4.6,
        1.76,
        ((0, 1.0), (0.06, 1.42), (0.56, 1.47), (0.74, 1.0), (0.97, 0.78), (1, 0.6)),
        0.95,
        (0.05, 0.71),
        0.95,
        0.28,
    ),
    "suv": Model(
        4.5,
        1.85,
        ((0, 1.1), (0.04, 1.65), (0.56, 1.72), (0.7, 1.15), (0.98, 1.0), (1, 0.7)),
        1.08,
        (0.06, 0.68),
        1.0,
        0.2,
    ),
    "van": Model(
        5.0,
        1.95,
        ((0, 2.0), (0.02, 2.1), (0.74, 2.1), (0.86, 1.25), (0.99, 1.0), (1, 0.7)),
        1.2,
        (0.62, 0.82),
        1.2,
        0.08,
        box_from=0.6,
        density=44.0,
    ),
    "bus": Model(10.5, 2.5, ((0, 2.9), (0.99, 2.9), (1, 2.7)), 1.15, (0.02, 0.97), 1.45, 0.0, density=30.0),
    "double decker": Model(
        10.0, 2.5, ((0, 4.2), (0.98, 4.2), (1, 4.0)), 1.15, (0.02, 0.97), 1.4, 0.0, tiers=2, density=28.0
    ),
    "lorry": Model(
        7.5,
        2.4,
        ((0, 3.2), (0.74, 3.2), (0.745, 2.5), (0.96, 2.5), (1, 1.5)),
        1.4,
        (0.8, 0.94),
        3.0,
        0.0,
        box_from=0.74,
        density=30.0,
    ),
}


@cache
def surface(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) a b y, their outward normals (N, 3) and their indexed texels (N,)."""
    model = MODELS[name]
    step = 0.6 / model.density
    length, half = model.length, model.width / 2
    knots = np.array(model.profile)
    clearance = 0.22 if model.length < 7 else 0.35
    noise = grain(np.random.default_rng(len(name)), 256)
    roof = knots[:, 1].max()

    def roof_at(a: np.ndarray) -> np.ndarray:
        return np.interp(a / length + 0.5, knots[:, 0], knots[:, 1])

    def half_at(y: np.ndarray) -> np.ndarray:
        return half - np.maximum(y - model.belt, 0.0) * model.lean

    pieces: list[tuple[np.ndarray, ...]] = []

    def add(
        a: np.ndarray,
        b: np.ndarray,
        y: np.ndarray,
        normal: tuple[float, float, float],
        part: np.ndarray,
        shade: np.ndarray,
        keep: np.ndarray,
    ) -> None:
        points = np.stack(np.broadcast_arrays(a, b, y), axis=-1)[keep].astype(np.float32)
        code = texels(np.broadcast_to(part, keep.shape), np.broadcast_to(shade, keep.shape))[keep]
        pieces.append((points, np.broadcast_to(np.array(normal, np.float32), points.shape), code))

    # Sides.
    a, y = np.meshgrid(np.arange(-length / 2, length / 2, step), np.arange(0.0, roof, step))
    share, top = a / length + 0.5, roof_at(a)
    part = np.where(share < model.box_from, SECOND, BODY)
    shade = (
        NEUTRAL
        + (0.25 if length < 4.8 else 0.6) * noise[np.arange(a.shape[0])[:, None] % 256, np.arange(a.shape[1]) % 256]
        - 3.0 * (y < 0.5)
    )
    shade = shade + 2.5 * (np.abs(y - model.belt + 0.12) < 0.05)
    for tier in range(model.tiers):
        low = model.belt + 0.06 + tier * 1.65
        high = np.minimum(top - 0.12, low + 1.05)
        pillar = np.abs((a + 0.3) % model.pillar) < 0.08
        glass = (y > low) & (y < high) & (share > model.windows[0]) & (share < model.windows[1]) & ~pillar
        part, shade = np.where(glass, GLASS, part), np.where(glass, NEUTRAL + 5 * (y - low) - 1, shade)
    part = np.where(y < clearance + 0.1, BLACK, part)
    radius = 0.32 if length < 7 else 0.48
    keep = (y > clearance) & (y < top)
    for hub in (0.19 * length, 0.82 * length):
        reach = np.hypot(a + length / 2 - hub, y - radius)
        part = np.where(reach < radius * 1.18, BLACK, part)
        shade = np.where(reach < radius * 1.18, NEUTRAL - 6, shade)
        part, shade = np.where(reach < radius * 0.6, BUMPER, part), np.where(reach < radius * 0.6, NEUTRAL, shade)
        keep |= reach < radius
    for sign in (-1.0, 1.0):
        add(a, sign * half_at(y), y, (0.0, sign, 0.1), part, shade, keep)
    # Roof, bonnet and the sloping screens between them.
    # Sampled by length along the profile, or steep rear windows would be left with holes.
    run = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(knots[:, 0]) * length, np.diff(knots[:, 1])))])
    stations = np.arange(0.0, run[-1], step)
    along = (np.interp(stations, run, knots[:, 0]) - 0.5) * length
    rise = np.interp(stations, run, knots[:, 1])
    a, lateral = np.meshgrid(along, np.arange(-1.0, 1.0, step / half))
    y = np.broadcast_to(rise, a.shape)
    slope = np.broadcast_to(np.gradient(rise, step) / np.maximum(np.gradient(along, step), 0.03), a.shape)
    screen = (np.abs(slope) > 0.35) & (y > model.belt + 0.03) & (np.abs(lateral) < 0.9)
    if model.box_from:
        screen &= a > 0
    part = np.where(screen, GLASS, np.where(a / length + 0.5 < model.box_from, SECOND, BODY))
    shade = NEUTRAL + np.where(screen, 4.0, 5.0) + 0 * a
    for rising in (True, False):
        piece = (slope > 0.02) if rising else (slope <= 0.02)
        facing = -1.0 if rising else 0.5
        add(a, lateral * half_at(y), y, (facing, 0.0, 0.8), part, shade, piece)
    # Front and rear.
    for end in (-1.0, 1.0):
        b, y = np.meshgrid(np.arange(-half, half, step), np.arange(clearance, roof, step))
        top = roof_at(np.array(end * length / 2))
        part, shade = np.full(b.shape, SECOND if end < 0 and model.box_from else BODY), np.full(b.shape, NEUTRAL - 1.0)
        part[y < 0.5] = BUMPER
        if end > 0 or (model.length > 7 and model.box_from == 0):
            for tier in range(model.tiers):
                low = model.belt + 0.05 + tier * 1.65
                part[(y > low) & (y < low + 1.15) & (y < top - 0.15) & (np.abs(b) < half - 0.12)] = GLASS
        lamp_y = 0.72 if model.length < 7 else 0.95
        lamp = (np.abs(y - lamp_y) < (0.16 if end < 0 else 0.1)) & (np.abs(b) > half - 0.24)
        part[lamp], shade[lamp] = (REAR_LIGHT if end < 0 else PLATE), NEUTRAL + 4
        part[(np.abs(y - 0.55) < 0.07) & (np.abs(b) < 0.27)] = PLATE
        part[y < clearance + 0.08] = BLACK
        add(
            np.full(b.shape, end * length / 2), b, y, (end, 0.0, 0.0), part, shade, (y < top) & (np.abs(b) < half_at(y))
        )
    # The dark strip under the body, seen between the wheels.
    a, b = np.meshgrid(np.arange(-length / 2, length / 2, step), np.arange(-half, half, step))
    add(
        a,
        b,
        np.full(a.shape, 0.03),
        (0.0, 0.0, 1.0),
        np.full(a.shape, BLACK),
        np.full(a.shape, NEUTRAL),
        np.full(a.shape, True),
    )
    points, normals, codes = (np.concatenate([piece[k] for piece in pieces]) for k in range(3))
    return points, normals, codes


@lru_cache(maxsize=600)
def stored_view(name: str, turn: int, near: bool) -> Sprite:
    """The sprite of one view: `turn` * VIEW_STEP degrees between the view ray and the vehicle's heading."""
    points, normals, codes = surface(name)
    model = MODELS[name]
    angle, distance = np.radians(turn * VIEW_STEP), (NEAR_VIEW if near else FAR_VIEW) + model.length / 3
    sin, cos = float(np.sin(angle)), float(np.cos(angle))
    a, b, y = points.T
    na, nb, ny = normals.T
    x, z = a * sin + b * cos, distance + a * cos - b * sin
    facing = (na * sin + nb * cos) * x + (na * cos - nb * sin) * z + ny * (y - EYE) < 0.0
    x, z, y, codes = x[facing], z[facing], y[facing], codes[facing]
    order = np.argsort(-z)
    u = (x * (distance / z))[order]
    v = ((y - EYE) * (distance / z) + EYE)[order]
    left, bottom = float(u.min()), float(v.min())
    rows, columns = int((v.max() - bottom) * model.density) + 1, int((u.max() - left) * model.density) + 1
    image = np.zeros((rows, columns), np.uint8)
    row = rows - 1 - ((v - bottom) * model.density).astype(np.int32)
    # Painted far to near: where two points share a texel the later, nearer one stays.
    image[row, ((u - left) * model.density).astype(np.int32)] = codes[order]
    # Where perspective spreads the points apart, single texels stay empty: give them their left neighbour's.
    hole = (image[:, 1:-1] == 0) & (image[:, :-2] != 0) & (image[:, 2:] != 0)
    image[:, 1:-1][hole] = image[:, :-2][hole]
    return Sprite(image, left, left + columns / model.density, bottom, bottom + rows / model.density)


def view(name: str, angle: float, distance: float) -> tuple[Sprite, bool]:
    """The stored sprite nearest to a view angle (radians) and whether to mirror it."""
    turn = round(float(np.degrees(angle)) / VIEW_STEP) % round(360 / VIEW_STEP)
    half_circle = round(180 / VIEW_STEP)
    mirrored = turn > half_circle
    return stored_view(name, 2 * half_circle - turn if mirrored else turn, distance < 12.0), mirrored
