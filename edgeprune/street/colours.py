"""Which colours things have. Greys, browns and greens are shared between classes on purpose."""

from __future__ import annotations

import random

from edgeprune.street import ground
from edgeprune.street.classes import BICYCLIST, BUILDING, CAR, FENCE, PEDESTRIAN, POLE, SIGN, TREE
from edgeprune.street.skin import Colour, Skin

GREYS: list[Colour] = [(92, 94, 98), (110, 110, 112), (125, 122, 118), (75, 77, 82), (140, 138, 134), (98, 92, 86)]
MASONRY: dict[str, list[Colour]] = {
    "brick": [
        (122, 78, 60),
        (140, 105, 75),
        (150, 128, 92),
        (100, 70, 60),
        (128, 92, 80),
        (158, 140, 110),
        (96, 88, 82),
    ],
    "stone": [(150, 142, 122), (128, 122, 110), (100, 96, 90), (165, 155, 130), *GREYS],
    "plaster": [
        (200, 196, 185),
        (215, 210, 195),
        (190, 180, 150),
        (170, 172, 175),
        (205, 185, 165),
        (160, 175, 190),
        *GREYS,
    ],
    "concrete": [*GREYS, (160, 158, 152), (135, 130, 120)],
}
GREENS: list[Colour] = [(62, 80, 40), (50, 66, 36), (78, 92, 46), (84, 84, 48), (44, 58, 40), (96, 98, 56)]
TWIGS: list[Colour] = [(78, 68, 58), (92, 82, 70), (62, 58, 54), (104, 92, 72)]
PAINTS: list[Colour] = [
    (190, 192, 195),
    (150, 153, 158),
    (60, 62, 68),
    (35, 36, 40),
    (215, 215, 212),
    (130, 25, 30),
    (35, 55, 110),
    (60, 85, 130),
    (40, 70, 50),
    (62, 80, 40),
    (150, 130, 90),
    (95, 30, 40),
    (110, 112, 115),
    (200, 170, 40),
    (120, 125, 130),
    (170, 173, 176),
    (48, 50, 56),
    (30, 38, 66),
    (80, 84, 90),
]
CLOTH: list[Colour] = [
    (30, 30, 34),
    (42, 44, 50),
    (58, 58, 62),
    (36, 44, 70),
    (60, 50, 42),
    (88, 80, 70),
    (110, 30, 32),
    (140, 138, 132),
    (190, 188, 182),
    (50, 62, 44),
    (92, 98, 110),
    (150, 110, 60),
    (60, 80, 120),
    (24, 24, 26),
    (46, 40, 38),
]
SKIN_TONES: list[Colour] = [(205, 160, 135), (185, 140, 115), (150, 105, 80), (95, 65, 50), (215, 175, 150)]
WHITE: Colour = (225, 225, 222)


def near(rng: random.Random, colour: Colour, spread: float = 0.12) -> Colour:
    """A colour like this one: lighter or darker, and a little off in hue."""
    level = 1.0 + rng.uniform(-spread, spread)
    tilt, turn = rng.uniform(-spread, spread) / 3, rng.uniform(-spread, spread) / 3
    return (colour[0] * level * (1.0 + tilt), colour[1] * level * (1.0 + turn), colour[2] * level * (1.0 - tilt))


def pick(rng: random.Random, colours: list[Colour]) -> Colour:
    """One of these colours, varied."""
    return near(rng, rng.choice(colours))


def scaled(colour: Colour, level: float) -> Colour:
    """A colour made lighter or darker."""
    return (colour[0] * level, colour[1] * level, colour[2] * level)


def dark(rng: random.Random, colour: Colour) -> Colour:
    """A cloth as street pictures mostly show it: in the shade, near black."""
    return scaled(colour, rng.uniform(0.45, 1.0))


def building(rng: random.Random, masonry: str) -> Skin:
    """Wall, trim, glass, dark, roof, shop front, second wall colour."""
    wall = pick(rng, MASONRY[masonry])
    trim = pick(rng, [WHITE, (190, 186, 175), (60, 60, 62), (110, 85, 60), wall])
    glass = pick(rng, [(52, 58, 64), (38, 42, 48), (80, 92, 104), (120, 135, 150)])
    shop = pick(rng, [(40, 60, 110), (120, 30, 35), (35, 70, 50), (40, 40, 44), (200, 195, 180), (180, 120, 40)])
    roof = pick(rng, [(70, 68, 70), (92, 72, 62), (110, 66, 52), (85, 84, 82)])
    second = pick(rng, MASONRY["plaster"] + CLOTH)
    return Skin([wall, trim, glass, pick(rng, CLOTH), roof, shop, second], BUILDING)


def tree(rng: random.Random, twiggy: bool, greens: list[Colour]) -> Skin:
    """Foliage and trunk."""
    return Skin([pick(rng, TWIGS) if twiggy else pick(rng, greens), pick(rng, TWIGS)], TREE)


def fence(rng: random.Random, kind: str, greens: list[Colour]) -> Skin:
    """Bars or boards, posts, coping; a hedge is foliage and a tree by label."""
    if kind == "hedge":
        return Skin([pick(rng, greens)], TREE)
    if kind == "low wall":
        colour = pick(rng, MASONRY[rng.choice(("brick", "stone", "plaster"))])
    elif kind == "boards":
        colour = pick(rng, [(110, 85, 60), (92, 80, 66), (128, 110, 84), (62, 80, 40), *GREYS])
    elif kind == "hoarding":
        colour = pick(rng, PAINTS + GREYS)
    else:
        colour = pick(rng, [(40, 42, 44), (24, 26, 28), (120, 124, 126), (150, 152, 152), (44, 66, 48), WHITE])
    return Skin([colour, near(rng, colour, 0.25), pick(rng, [colour, WHITE, (120, 116, 110)])], FENCE)


def vehicle(rng: random.Random, large: bool) -> Skin:
    """Body, glass, black, rear lights, bumpers, plate and head lights, second paint."""
    body = pick(rng, PAINTS + GREYS * 2 + [(150, 20, 25), (50, 110, 170)] * 2) if large else pick(rng, PAINTS)
    bumper = near(rng, body) if rng.random() < 0.6 else (60, 60, 63)
    second = pick(rng, [body, WHITE, *GREYS, (150, 148, 140)])
    plate = (235, 232, 215) if rng.random() < 0.5 else (215, 180, 60)
    return Skin(
        [
            body,
            pick(rng, [(38, 44, 50), (60, 70, 78), (28, 30, 34)]),
            (22, 22, 24),
            (150, 30, 28),
            bumper,
            plate,
            second,
        ],
        CAR,
    )


def person(rng: random.Random, rides: bool) -> Skin:
    """Skin, hair, top, trousers, shoes, bag or helmet, bicycle."""
    top = rng.choice([(210, 220, 60), (230, 110, 40)] if rides and rng.random() < 0.3 else CLOTH)
    hair = pick(rng, [(35, 28, 24), (60, 42, 28), (120, 90, 50), (140, 136, 130), (20, 20, 22)])
    bag = pick(rng, [*CLOTH, WHITE, (40, 80, 150)])
    return Skin(
        [
            pick(rng, SKIN_TONES),
            hair,
            near(rng, dark(rng, top)),
            near(rng, dark(rng, rng.choice(CLOTH[:10]))),
            pick(rng, CLOTH[:4]),
            bag,
            pick(rng, [(40, 42, 46), (110, 30, 34), (150, 152, 155), (40, 60, 110)]),
        ],
        BICYCLIST if rides else PEDESTRIAN,
    )


def furniture(rng: random.Random, kind: str) -> Skin:
    """Pole, sign face, rim, mark, lamp, back. Only what carries a message is a sign."""
    pole = pick(rng, [(105, 108, 110), (70, 72, 75), (40, 42, 44), (140, 142, 142), (60, 72, 62), (90, 70, 55)])
    if kind == "light":
        return Skin(
            [pole, (40, 40, 42), (255, 60, 40), (60, 255, 140), (255, 190, 50), (28, 28, 30)], [POLE, *[SIGN] * 6]
        )
    face, rim, mark = rng.choice(
        [
            (WHITE, (185, 35, 40), (35, 35, 38)),
            ((30, 80, 160), WHITE, WHITE),
            ((20, 95, 65), WHITE, WHITE),
            (WHITE, (40, 40, 44), (40, 40, 44)),
            ((225, 190, 60), (40, 40, 44), (40, 40, 44)),
            ((120, 122, 125), (105, 106, 108), (112, 114, 116)),
        ]
    )
    back = rng.choice([(30, 80, 160), WHITE, (120, 122, 125)])
    return Skin([pole, near(rng, face), near(rng, rim), near(rng, mark), WHITE, back], [POLE, *[SIGN] * 6])


def ground_colours(rng: random.Random, greens: list[Colour]) -> dict[int, Colour]:
    """The colour of every ground material; road and pavement are often the same grey."""
    road = pick(rng, GREYS)
    foot = near(rng, road, 0.15) if rng.random() < 0.55 else pick(rng, [*GREYS, (150, 140, 125), (135, 110, 95)])
    paint = near(rng, (205, 205, 200))
    dark = scaled(road, 0.72)
    worn = (0.5 * (road[0] + paint[0]), 0.5 * (road[1] + paint[1]), 0.5 * (road[2] + paint[2]))
    grass = near(rng, rng.choice(greens), 0.2)
    return {
        ground.ASPHALT: road,
        ground.PATCH: dark,
        ground.PALE_PATCH: scaled(road, 1.2),
        ground.WHITE: paint,
        ground.YELLOW: near(rng, (190, 160, 70)),
        ground.WORN: worn,
        ground.KERB: near(rng, (135, 133, 128), 0.25),
        ground.SLABS: foot,
        ground.FOOT_ASPHALT: foot,
        ground.GRASS: scaled(grass, 1.15),
        ground.IRON: (62, 60, 58),
        ground.CRACK: scaled(road, 0.6),
        ground.LANE: rng.choice([(120, 60, 50), (60, 95, 70), dark]),
        ground.FORECOURT: pick(rng, GREYS),
        ground.FOOT_PATCH: near(rng, foot, 0.3),
        ground.PAVERS: pick(rng, MASONRY["brick"]),
    }
