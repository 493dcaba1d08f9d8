"""Pedestrians and cyclists: figures of capsules, posed by gait phase and seen from several sides.

Parts of a figure: 1 skin, 2 hair, 3 top, 4 trousers, 5 shoes, 6 bag or helmet, 7 bicycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from edgeprune.street.skin import GAP, NEUTRAL, texels
from edgeprune.street.sprites import Sprite

SKIN, HAIR, TOP, LEGS, SHOES, BAG, BICYCLE = range(1, 8)
PHASES = 6
Ellipse = tuple[float, float, float, float]  # centre x, y, radius x, y; metres
Limb = tuple[float, float, float, float, float, float, int, float]  # x0 y0 x1 y1 radius0 radius1 part shade


def draw_figure(
    limbs: list[Limb], half_width: float, top: float, texels_per_metre: float, wheels: Sequence[Ellipse] = ()
) -> Sprite:
    """Rasterise capsules (metres, feet at the origin, later ones in front) into a sprite. One sees through the wheels,
    but they count as part of the figure."""
    rows, columns = int(top * texels_per_metre), int(2 * half_width * texels_per_metre)
    y = top - (np.arange(rows, dtype=np.float32)[:, None] + 0.5) / texels_per_metre
    x = (np.arange(columns, dtype=np.float32)[None, :] + 0.5) / texels_per_metre - half_width
    part = np.zeros((rows, columns), int)
    shade = np.zeros((rows, columns), np.float32)
    folds = np.random.default_rng(len(limbs)).normal(0.0, 1.0, (rows // 4 + 1, columns // 4 + 1))
    cloth = folds.repeat(4, axis=0).repeat(4, axis=1)[:rows, :columns]
    for x0, y0, x1, y1, radius0, radius1, number, tone in limbs:
        dx, dy = x1 - x0, y1 - y0
        t = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
        radius = radius0 + (radius1 - radius0) * t
        offset_x, offset_y = x - x0 - t * dx, y - y0 - t * dy
        inside = offset_x**2 + offset_y**2 < radius**2
        part[inside] = number
        # Lit from the upper left, so that a limb reads as round.
        shade[inside] = (NEUTRAL + tone + cloth + 4.0 * (offset_y - offset_x) / radius)[inside]
    image = texels(part, shade)
    for centre_x, centre_y, radius_x, radius_y in wheels:
        within = ((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2 < 1.0
        image[within & (image == 0)] = GAP
    return Sprite(image, -half_width, half_width, 0.0, top)


def walker(rng: np.random.Generator, phase: float, side: float, build: float, skirt: bool, bag: int) -> Sprite:
    """A walking adult 1.75 m high. `side` 0 = seen from front or back, 1 = from the side; phase 0..1."""
    swing = np.sin(2 * np.pi * phase)
    lift = max(0.0, float(np.cos(2 * np.pi * phase)))
    hip, shoulder, stride = 0.9, 1.43, 0.34 * side
    wide = 0.09 * (1 - side) + 0.01
    limbs: list[Limb] = []
    for sign, tone in ((-1, -4), (1, 0)):  # far leg and arm first
        foot_x = sign * (wide + stride * swing)
        foot_y = 0.05 + 0.1 * (lift if sign > 0 else 0.0)
        knee_x = sign * wide + 0.6 * sign * stride * swing + 0.05 * side
        limbs.append((sign * wide, hip, knee_x, 0.5, 0.095 * build, 0.07 * build, LEGS, tone))
        limbs.append((knee_x, 0.5, foot_x, foot_y + 0.05, 0.07 * build, 0.05, LEGS, tone))
        limbs.append((foot_x - 0.03 * side, foot_y, foot_x + 0.1 * side, foot_y - 0.01, 0.05, 0.04, SHOES, tone))
        if sign < 0:
            limbs += arm(sign, side, swing, shoulder, build, tone)
    chest = (0.15 * (1 - side) + 0.11 * side) * build
    if skirt:
        limbs.append((0, hip + 0.1, 0, 0.5, chest, chest * 1.25, TOP, -2))
    limbs.append((0, hip + 0.02, 0, shoulder - 0.08, chest * 0.95, chest * 1.05, TOP, 0))
    limbs.append((-chest * (1 - side), shoulder, chest * (1 - side), shoulder, 0.08, 0.08, TOP, 1))
    limbs += arm(1, side, swing, shoulder, build, 0)
    limbs.append((0, shoulder, 0.02 * side, 1.55, 0.05, 0.05, SKIN, -3))
    limbs.append((0.02 * side, 1.6, 0.03 * side, 1.67, 0.085, 0.09, SKIN, 1))
    back = side < 0.5 and rng.random() < 0.5
    limbs.append((-0.03 * side, 1.63 if back else 1.7, -0.02 * side, 1.7, 0.095, 0.085, HAIR, 0))
    if bag == 1:  # in the hand
        limbs.append((0.26 - 0.1 * side, 0.68, 0.26 - 0.1 * side, 0.48, 0.07, 0.12, BAG, 0))
    elif bag == 2:  # on the back
        limbs.append((-0.17 * side, 1.35, -0.17 * side, 1.05, 0.12, 0.14, BAG, -1))
    return draw_figure(limbs, 0.5, 1.82, 72.0)


def arm(sign: int, side: float, swing: float, shoulder: float, build: float, tone: float) -> list[Limb]:
    """Upper and lower arm and hand, swinging against the legs."""
    root = sign * 0.2 * build * (1 - side)
    elbow = root + sign * 0.04 * (1 - side) - sign * 0.18 * swing * side
    hand = elbow - sign * 0.12 * swing * side + 0.06 * side
    return [
        (root, shoulder - 0.03, elbow, 1.15, 0.065, 0.05, TOP, tone - 1),
        (elbow, 1.15, hand, 0.92, 0.05, 0.04, TOP, tone - 1),
        (hand, 0.88, hand, 0.85, 0.045, 0.04, SKIN, tone),
    ]


def cyclist(phase: float, side: float, helmet: bool) -> Sprite:
    """A rider on a bicycle. `side` is the sine of the view angle: 0 = from behind or in front, 1 = from the side."""
    limbs: list[Limb] = []
    axle, wheel, bar = 0.52 * side, 0.34, 0.03
    for hub in (-axle, axle):
        turns = np.linspace(0, 2 * np.pi, 25)
        rim_x, rim_y = hub + wheel * max(side, 0.04) * np.cos(turns), wheel + (wheel - 0.02) * np.sin(turns)
        limbs += [(rim_x[k], rim_y[k], rim_x[k + 1], rim_y[k + 1], bar, bar, BICYCLE, -8) for k in range(24)]
        for k in range(0, 24, 6):
            limbs.append((hub, wheel, rim_x[k], rim_y[k], 0.012, 0.012, BICYCLE, 0))
    crank, saddle, head = (-0.05 * side, 0.32), (-0.2 * side, 0.92), (0.38 * side, 0.9)
    for a, b in ((crank, saddle), (saddle, head), (crank, head), ((-axle, wheel), crank), ((axle, wheel), head)):
        limbs.append((*a, *b, 0.026, 0.026, BICYCLE, 2))
    limbs.append((head[0] - 0.25 * (1 - side), 1.02, head[0] + 0.25 * (1 - side), 1.02, 0.03, 0.03, BICYCLE, -4))
    hip, shoulder = (-0.18 * side, 1.0), (0.16 * side, 1.48)
    for sign, tone in ((-1, -4), (1, 0)):
        turn = 2 * np.pi * (phase + (0.5 if sign > 0 else 0.0))
        pedal = (crank[0] + 0.17 * side * np.cos(turn), 0.32 + 0.17 * np.sin(turn))
        out = sign * 0.1 * (1 - side)
        knee = ((hip[0] + pedal[0]) / 2 + 0.2 * side + 1.3 * out, (hip[1] + pedal[1]) / 2 + 0.06)
        limbs.append((hip[0] + out, hip[1], *knee, 0.095, 0.075, LEGS, tone))
        limbs.append((*knee, pedal[0] + out, pedal[1], 0.07, 0.05, LEGS, tone))
        limbs.append(
            (pedal[0] + out - 0.04, pedal[1] - 0.04, pedal[0] + out + 0.08, pedal[1] - 0.04, 0.045, 0.04, SHOES, tone)
        )
        hand = (head[0] + 0.02 + sign * 0.24 * (1 - side), 1.05)
        elbow = ((shoulder[0] + hand[0]) / 2 + sign * 0.22 * (1 - side), 1.2)
        start = shoulder[0] + sign * 0.17 * (1 - side)
        limbs.append((start, shoulder[1] - 0.02, *elbow, 0.065, 0.05, TOP, tone))
        limbs.append((*elbow, *hand, 0.05, 0.04, TOP, tone))
        if sign < 0:
            chest = 0.17 - 0.04 * side
            limbs.append((*hip, *shoulder, chest, chest, TOP, 0))
    limbs.append((shoulder[0] + 0.05 * side, 1.58, shoulder[0] + 0.12 * side, 1.7, 0.06, 0.095, SKIN, 0))
    limbs.append(
        (shoulder[0] + 0.08 * side, 1.74, shoulder[0] + 0.1 * side, 1.75, 0.1, 0.1, BAG if helmet else HAIR, 0)
    )
    wheels = [(hub, wheel, wheel * max(side, 0.04), wheel) for hub in (-axle, axle)]
    return draw_figure(limbs, 0.95, 1.88, 64.0, wheels)


@cache
def crowd() -> dict[str, list[list[Sprite]]]:
    """Figures by kind, each a list of gait phases.

    Kinds: 'across' and 'along' (walking), 'stand', and 'cycle 0' (seen along its way) to 'cycle 4' (from the side).
    """
    rng = np.random.default_rng(5)
    figures: dict[str, list[list[Sprite]]] = {"across": [], "along": [], "stand": []}
    for k in range(10):
        build, skirt, bag = rng.uniform(0.9, 1.3), k % 4 == 3, (0, 1, 2, 0, 1)[k % 5]
        for kind, side in (("across", 1.0), ("along", 0.25)):
            figures[kind].append([walker(rng, p / PHASES, side, build, skirt, bag) for p in range(PHASES)])
        figures["stand"].append([walker(rng, 0.03, (k % 3) / 2, build, skirt, bag)])
    for view in range(5):
        side = float(np.sin(np.pi / 8 * view))
        figures[f"cycle {view}"] = [
            [cyclist(p / PHASES, side, helmet) for p in range(PHASES)] for helmet in (False, True)
        ]
    return figures
