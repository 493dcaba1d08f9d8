"""Lays out one stretch of street: buildings, boundaries, trees, furniture, parked cars, people standing about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeprune.street import colours
from edgeprune.street.facades import bank
from edgeprune.street.ground import CHUNK
from edgeprune.street.people import crowd
from edgeprune.street.signs import furniture
from edgeprune.street.skin import Skin
from edgeprune.street.sprites import Sprite
from edgeprune.street.surfacing import pave
from edgeprune.street.things import Chunk, Thing
from edgeprune.street.trees import forest
from edgeprune.street.walls import Wall

if TYPE_CHECKING:
    from edgeprune.street.world import World


class Builder:
    """Lays out one stretch."""

    def __init__(self, world: World, k: int) -> None:
        self.world, self.number, self.start = world, k, k * CHUNK
        self.rng = world.rng(k, 2)
        self.district = world.district(k)
        self.walls: list[Wall] = []
        self.things: list[Thing] = []
        # (from, to) metres within the stretch of a side road, by side; the road ahead of s = 0 exists too.
        self.mouths: dict[int, tuple[float, float] | None] = {-1: None, 1: None}
        if self.rng.random() < 0.28:
            middle, half = self.rng.uniform(9.0, 22.0), self.rng.uniform(3.0, 5.5)
            for side in self.rng.choice(((-1,), (1,), (-1, 1))):
                self.mouths[side] = (middle - half, middle + half)
        self.verge = {side: self.rng.random() < self.district.verge for side in (-1, 1)}

    def build(self) -> Chunk:
        """Ground, buildings, boundaries, then what stands in the street."""
        shadows: list[tuple[float, float, float, float]] = []
        for side in (-1, 1):
            self.buildings(side, shadows)
            self.street_side(side)
        self.crossing()
        ground = pave(self.world, self.start, self.rng, self.mouths, self.verge, shadows)
        for place, thing in enumerate(self.things):
            thing.key = ("stretch", self.number, place)
        return Chunk(ground, self.walls, self.things)

    def x(self, side: int, s: float, beyond: float) -> float:
        """World x of a point `beyond` metres outside the kerb."""
        return self.world.bend(s) + side * (self.world.kerb(s) + beyond)

    def free(self, side: int, a: float, b: float, margin: float = 0.0) -> bool:
        """Whether a..b (metres within the stretch) keeps clear of the side road."""
        mouth = self.mouths[side]
        return mouth is None or b < mouth[0] - margin or a > mouth[1] + margin

    def buildings(self, side: int, shadows: list[tuple[float, float, float, float]]) -> None:
        """The row of buildings on one side, with their garden boundaries."""
        rng, district = self.rng, self.district
        at = 0.0
        setback = rng.uniform(*district.setback)
        frontage = rng.choice(district.frontage)
        while at < CHUNK - 2.0:
            length = min(rng.uniform(5.0, 15.0), CHUNK - at)
            if CHUNK - at - length < 4.0:
                length = CHUNK - at
            mouth = self.mouths[side]
            if mouth is not None and at < mouth[1] + 2.0 and at + length > mouth[0] - 2.0:
                if mouth[0] - 2.0 - at > 4.0:
                    length = mouth[0] - 2.0 - at
                else:
                    at = mouth[1] + 2.0
                    continue
            if rng.random() < 0.4:
                setback = rng.uniform(*district.setback)
            line = self.world.pavement + setback
            if rng.random() < district.built:
                height = self.building(side, at, length, line)
                if side == self.world.light.sun_side:
                    shadows.append((at, at + length, side * line, height * 0.7))
            else:
                self.planting(side, at, length, line)
            if setback > 0.8 and rng.random() < 0.85:
                if rng.random() < 0.3:
                    frontage = rng.choice(district.frontage)
                gap = 3.0 if length > 7 else 1.0  # a gate
                self.fence(side, at, at + length - gap, self.world.pavement + 0.05, frontage)
            at += length + (rng.uniform(1.0, 7.0) if rng.random() > district.built**2 else 0.0)

    def building(self, side: int, at: float, length: float, line: float) -> float:
        """One building: facade, the side wall that faces the camera, roof. Returns its height, metres."""
        rng, district, kinds = self.rng, self.district, bank().kinds
        masonry = rng.choice(district.masonry)
        curtain = masonry == "curtain"
        storeys, storey = rng.randint(*district.storeys), rng.uniform(2.7, 3.5)
        bays = max(1, round(length / rng.uniform(2.4, 4.2)))
        if curtain:
            masonry = "concrete"
        window = rng.choice(kinds["curtain"] if curtain else kinds[f"{masonry} window"])
        plain = kinds[f"{masonry} plain"][0]
        pitched = rng.random() < district.pitched and not curtain
        grid = np.full((storeys + 2, bays), window, np.int32)
        if rng.random() < 0.3:
            grid[:, rng.randrange(bays)] = plain
        shops = rng.random() < district.shops
        for bay in range(bays):
            if shops:
                grid[0, bay] = rng.choice(kinds["shop"])
            elif rng.random() < 0.4:
                grid[0, bay] = kinds[f"{masonry} {rng.choice(('door', 'door', 'garage', 'plain'))}"][0]
            chimney = pitched and rng.random() < 0.3
            grid[storeys, bay] = rng.choice(kinds["roof"]) if pitched else kinds[f"{masonry} parapet"][0]
            grid[storeys + 1, bay] = rng.choice(kinds["chimney"]) if chimney else kinds["empty"][0]
        if pitched:
            grid[storeys] = rng.choice(kinds["roof"])
        if rng.random() < 0.1:
            grid[:] = np.where(np.isin(grid, kinds["chimney"] + kinds["empty"]), grid, plain)  # a blank wall
        skin = colours.building(rng, masonry)
        light = self.world.light
        s0, s1 = self.start + at, self.start + at + length
        near_x, far_x = self.x(side, s0, line), self.x(side, s1, line)
        self.walls.append(Wall(near_x, s0, far_x, s1, storey, grid, skin, light.facade[side]))
        depth = rng.uniform(7.0, 11.0)
        flank = np.full((storeys + 1, 3), plain, np.int32)
        if rng.random() < 0.4:
            flank[:storeys, 1] = window
        flank[storeys] = kinds["empty"][0] if pitched else kinds[f"{masonry} parapet"][0]
        back = near_x + side * depth
        self.walls.append(Wall(near_x, s0, back, s0, storey, flank, skin, light.gable))
        if pitched:
            gable = np.array([[kinds[f"{masonry} gable"][0]]], np.int32)
            self.walls.append(Wall(near_x, s0, back, s0, storey, gable, skin, light.gable, base=storeys * storey))
        return storeys * storey

    def planting(self, side: int, at: float, length: float, line: float) -> None:
        """Trees and shrubs where no building stands."""
        for _ in range(self.rng.randint(1, 4)):
            s = at + self.rng.uniform(0.0, length)
            self.tree(side, s, line + self.rng.uniform(0.0, 9.0), large=self.rng.random() < 0.7)

    def tree(self, side: int, at: float, beyond: float, large: bool) -> None:
        """A tree or, not `large`, a shrub."""
        rng = self.rng
        bare = rng.random() < self.world.bare_share
        kind = rng.choices(("broadleaf", "conifer"), (5, 1))[0] if large else "shrub"
        if bare and large:
            kind = "bare"
        sprite = rng.choice(forest()[kind])
        size = rng.uniform(5.0, 12.0) if large else rng.uniform(0.7, 2.2)
        skin = colours.tree(rng, kind == "bare", self.world.greens)
        s = self.start + at
        self.things.append(
            Thing(self.x(side, s, beyond), s, skin, size, rng.random() < 0.5, sprite, lit=rng.uniform(0.8, 1.2))
        )

    def fence(self, side: int, a: float, b: float, beyond: float, kind: str) -> None:
        """A fence, wall or hedge along the street, in panels of about 4 m."""
        rng, numbers = self.rng, bank().kinds[kind]
        height = {
            "low wall": rng.uniform(0.6, 1.4),
            "hedge": rng.uniform(0.8, 2.6),
            "railing": rng.uniform(0.9, 1.5),
            "barrier": 0.8,
            "boards": rng.uniform(1.2, 2.0),
            "mesh": rng.uniform(1.2, 2.4),
            "hoarding": rng.uniform(1.8, 2.6),
        }[kind]
        skin, number = colours.fence(rng, kind, self.world.greens), rng.choice(numbers)
        panels = max(1, round((b - a) / 4.0))
        for panel in range(panels):
            p, q = a + (b - a) * panel / panels, a + (b - a) * (panel + 1) / panels
            if not self.free(side, p, q, 1.0):
                continue
            s0, s1 = self.start + p, self.start + q
            grid = np.full((1, max(1, round((q - p) / (1.6 if height > 1 else height * 1.5)))), number, np.int32)
            self.walls.append(
                Wall(
                    self.x(side, s0, beyond),
                    s0,
                    self.x(side, s1, beyond),
                    s1,
                    height,
                    grid,
                    skin,
                    self.world.light.facade[side],
                    solid=False,
                )
            )

    def street_side(self, side: int) -> None:
        """Furniture, trees, parked cars, railings and people standing about on one side."""
        rng, district, kinds, pavement = self.rng, self.district, furniture(), self.world.pavement
        population = self.world.population
        posts = population.furniture_range
        furnished = rng.randint(0, 2) + round(district.furniture * rng.uniform(0.5, 1.8))
        for _ in range(round(population.furniture * furnished)):
            kind = rng.choices(("lamp", "sign", "board", "light", "bollard", "mast"), (28, 36, 5, 7, 14, 10))[0]
            at = rng.uniform(0.0, CHUNK)
            copies = rng.randint(2, 6) if kind == "bollard" else 1
            beyond, skin, sprite = (
                rng.choice((0.4, 0.5, pavement - 0.3)),
                colours.furniture(rng, kind),
                rng.choice(kinds[kind]),
            )
            for copy in range(copies):
                self.stand(side, at + 1.6 * copy, beyond, skin, sprite, rng.uniform(0.9, 1.15), side > 0, posts)
        mouth = self.mouths[side]
        if mouth is not None and rng.random() < 0.6:  # lights or signs at the junction
            kind = rng.choice(("light", "light", "sign"))
            skin, sprite = colours.furniture(rng, kind), rng.choice(kinds[kind])
            for at in (mouth[0] - 1.5, mouth[1] + 1.5):
                self.stand(side, at, 0.5, skin, sprite, 1.0, False, posts)
        for _ in range(round(district.trees * rng.uniform(0.2, 1.4))):
            at = rng.uniform(0.0, CHUNK)
            if self.free(side, at, at, 1.5):
                self.tree(side, at, rng.uniform(0.7, max(0.8, pavement - 0.5)), large=rng.random() < 0.85)
        if rng.random() < district.railing:
            a = rng.uniform(0.0, CHUNK * 0.5)
            kind = rng.choices(("railing", "barrier", "hoarding", "mesh"), (8, 1, 1, 1))[0]
            self.fence(side, a, a + rng.uniform(6.0, 16.0), 0.3, kind)
        at = rng.uniform(0.0, 6.0)
        while at < CHUNK:
            if rng.random() < district.parked and self.free(side, at - 2.5, at + 2.5, 3.0):
                model = rng.choices(("hatchback", "saloon", "estate", "suv", "van", "lorry"), (9, 5, 4, 3, 3, 0.4))[0]
                s = self.start + at
                own_side = (side < 0) == self.world.left_hand
                heading = self.world.bend_slope(s) + (np.pi if rng.random() < (0.2 if own_side else 0.8) else 0.0)
                x = self.x(side, s, rng.uniform(-0.9, -0.5))
                skin = colours.vehicle(rng, model == "lorry")
                self.things.append(Thing(x, s, skin, rng.uniform(0.95, 1.05), model=model, heading=heading))
            at += rng.uniform(5.2, 6.5)
        figures = crowd()
        for _ in range(round(population.people * district.people * self.world.busy * rng.uniform(0.0, 1.0))):
            at, beyond = rng.uniform(0.0, CHUNK), rng.uniform(0.3, pavement - 0.2)
            for member in range(rng.choices((1, 2, 3), (5, 3, 1))[0]):
                kind = rng.choice(("stand", "stand", "across", "along"))
                sprite = rng.choice(rng.choice(figures[kind]))
                self.stand(
                    side,
                    at + rng.uniform(-0.5, 0.5),
                    beyond + 0.55 * member,
                    colours.person(rng, False),
                    sprite,
                    rng.choices((rng.uniform(0.88, 1.08), rng.uniform(0.55, 0.8)), (7, 1))[0],
                    rng.random() < 0.5,
                    population.people_range,
                )

    def stand(
        self, side: int, at: float, beyond: float, skin: Skin, sprite: Sprite, size: float, mirrored: bool, seen: float
    ) -> None:
        """Put a sprite on the pavement unless a side road runs there."""
        if not self.free(side, at, at, 0.5):
            return
        s = self.start + at
        self.things.append(Thing(self.x(side, s, beyond), s, skin, size, mirrored, sprite, seen=seen))

    def crossing(self) -> None:
        """Now and then a refuge with bollards in the middle of the road, or people crossing."""
        rng = self.rng
        if rng.random() < 0.10 and self.world.half_road > 3.6:
            at, kinds = rng.uniform(4.0, CHUNK - 4.0), furniture()
            for offset in (-1.5, 1.5):
                kind = rng.choice(("sign", "bollard", "light"))
                sprite, skin = rng.choice(kinds[kind]), colours.furniture(rng, kind)
                s = self.start + at + offset
                posts = self.world.population.furniture_range
                self.things.append(Thing(self.world.bend(s), s, skin, 0.9, False, sprite, seen=posts))
        if rng.random() < self.world.population.people * 0.14 * self.world.busy:
            at = rng.uniform(0.0, CHUNK)
            for _ in range(rng.randint(1, 3)):
                s = self.start + at + rng.uniform(-1.0, 1.0)
                x = self.world.bend(s) + rng.uniform(-1.0, 1.0) * self.world.half_road
                sprite = rng.choice(rng.choice(crowd()["across"]))
                skin, size, mirrored = colours.person(rng, False), rng.uniform(0.9, 1.05), rng.random() < 0.5
                seen = self.world.population.people_range
                self.things.append(Thing(x, s, skin, size, mirrored, sprite, seen=seen))
