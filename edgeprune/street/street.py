"""The synthetic street: a camera drives down an endless generated street; every frame comes with exact labels."""

from __future__ import annotations

import numpy as np

from edgeprune.street.camera import NEAR, Camera
from edgeprune.street.classes import BUILDING, TREE
from edgeprune.street.facades import bank
from edgeprune.street.ground import ALONG, CHUNK, COLUMNS, RING, ROWS, colour_tables, draw_ground
from edgeprune.street.owners import Frame, Owners
from edgeprune.street.people import crowd
from edgeprune.street.population import POPULATIONS
from edgeprune.street.skin import Skin
from edgeprune.street.sprites import blit
from edgeprune.street.things import Thing
from edgeprune.street.traffic import Traffic
from edgeprune.street.vehicles import MODELS, view
from edgeprune.street.walls import draw_wall
from edgeprune.street.world import World

FRAMES_PER_SECOND = 15.0
WALL_RANGE = 190.0  # metres
SKYLINE = 2048  # azimuths around the horizon


class Street:
    """A drive down the street of one seed, with the things of a population (a row of POPULATIONS).

    `frame(index)` is a function of (seed, index, size) alone: frames may be asked for in any order, and consecutive
    ones, asked for in order, reuse the stretches of street already laid out.
    """

    def __init__(self, seed: int, height: int = 384, width: int = 512, population: str = "street") -> None:
        if height < 32 or width < 32:
            raise ValueError(f"the street needs frames of at least 32x32 pixels, found {height}x{width}")
        self.seed, self.height, self.width = seed, height, width
        self.world = World(seed, POPULATIONS[population])
        self.traffic = Traffic(self.world)
        rng = self.world.rng(0, 4)
        self.speed = rng.uniform(4.0, 11.0)  # m/s
        self.start = rng.uniform(0.0, 1000.0)
        side = -1.0 if self.world.left_hand else 1.0
        half = self.world.half_road
        self.lane = side * max(0.4, min(half * rng.uniform(0.35, 0.6), half - 2.7))  # clear of parked cars
        self.eye = rng.uniform(1.15, 1.7) if rng.random() < 0.85 else rng.uniform(1.7, 2.6)
        self.focal = rng.uniform(0.75, 1.25)  # of the frame's width
        self.horizon = rng.uniform(0.40, 0.54)  # of the frame's height
        self.roll = rng.gauss(0.0, 0.012)
        self.look = rng.gauss(0.0, rng.choices((0.05, 0.2, 0.4), (78, 16, 6))[0])  # radians off the street's axis
        self.phases = [rng.uniform(0.0, 6.3) for _ in range(5)]
        light, world = self.world.light, self.world
        self.ground_tables = colour_tables(
            world.ground_colours, light.gain, light.shade_gain, light.haze, light.haze_range, light.tone
        )
        self.ring = np.zeros((RING, ROWS, COLUMNS), np.uint8)
        self.ring_holds = [-1] * RING
        skyline = np.random.default_rng(seed)
        coarse = np.repeat(skyline.uniform(0.0, 1.0, SKYLINE // 16), 16)
        fine = np.convolve(skyline.uniform(-1.0, 1.0, SKYLINE), np.ones(5) / 5, "same")
        self.skyline_is_tree = np.repeat(skyline.random(SKYLINE // 32) < 0.6, 32)
        self.skyline_height = np.where(self.skyline_is_tree, 0.02 + 0.03 * coarse + 0.02 * fine, 0.01 + 0.05 * coarse)
        backdrop = Skin([(70, 74, 60), (104, 100, 96)], [TREE, BUILDING])
        self.backdrop = light.table(backdrop, 0.35 * light.haze_range, 0.9)

    def camera(self, time: float) -> Camera:
        """Where the camera is and looks at `time` seconds."""
        a, b, c, d, e = self.phases
        # Speed varies between about 0.4 and 1.6 of the mean, and never turns negative.
        s = self.start + self.speed * (time + 1.5 * np.sin(0.4 * time + a))
        lateral = self.lane + 0.25 * np.sin(0.31 * time + b)
        yaw = np.arctan(self.world.bend_slope(s + 6.0)) + self.look + 0.02 * np.sin(0.5 * time + c)
        bob = 0.004 * np.sin(7.0 * time + d) + 0.004 * np.sin(2.3 * time + e)
        return Camera(
            x=float(self.world.bend(s) + lateral), s=float(s), height=self.eye, yaw=float(yaw),
            roll=self.roll + 0.3 * bob, focal=self.focal * self.width, horizon=(self.horizon + bob) * self.height,
            rows=self.height, columns=self.width,
        )  # fmt: skip

    @property
    def moment(self) -> int:
        """The frame that is the scene of this seed."""
        return self.world.rng(0, 6).randrange(100_000)

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame `index` >= 0: picture (height, width, 3) uint8 RGB and labels (height, width) uint8."""
        return self._draw(index, None)

    def frame_with_things(self, index: int) -> Frame:
        """The same frame, and which thing each pixel belongs to."""
        owners = Owners(self.height, self.width)
        image_HW3, label_HW = self._draw(index, owners)
        return Frame(image_HW3, label_HW, *owners.seen(label_HW))

    def _draw(self, index: int, owners: Owners | None) -> tuple[np.ndarray, np.ndarray]:
        time = index / FRAMES_PER_SECOND
        camera = self.camera(time)
        light = self.world.light
        canvas = np.zeros((self.height, self.width), np.uint32)
        depth = np.full((self.height, self.width), np.inf, np.float32)
        lowest = min(self.height, int(max(camera.horizon_at(0.0), camera.horizon_at(self.width))) + 2)
        light.draw_sky(canvas, lowest, camera.yaw * camera.focal)
        self._draw_backdrop(canvas, camera)
        first = int(camera.s // CHUNK)
        chunks = [self.world.chunk(k) for k in range(first, first + RING - 1)]
        for k, chunk in enumerate(chunks, first):
            if self.ring_holds[k % RING] != k:
                self.ring[k % RING], self.ring_holds[k % RING] = chunk.ground, k
        stations = camera.s + np.arange(int((RING - 1) * ROWS - ALONG * (camera.s - first * CHUNK) - 1)) / ALONG
        draw_ground(canvas, camera, self.ring.ravel(), self.world.bend_along(stations), self.ground_tables)
        edge = 0.5 / self.focal  # slope of the view's sides
        walls = []
        things: list[tuple[float, Thing | None, tuple]] = []
        for chunk in chunks:
            for wall in chunk.walls:
                ends = (*camera.locate(wall.x0, wall.s0), *camera.locate(wall.x1, wall.s1))
                middle = (ends[1] + ends[3]) / 2
                if (ends[1] < NEAR and ends[3] < NEAR) or middle > WALL_RANGE:
                    continue
                # Both ends beyond the same edge of the view: no part of the wall is in it.
                if (ends[0] > edge * ends[1] and ends[2] > edge * ends[3]) or (
                    ends[0] < -edge * ends[1] and ends[2] < -edge * ends[3]
                ):
                    continue
                if wall.solid:
                    walls.append((middle, wall, ends))
                else:
                    things.append((middle, None, (wall, ends)))
            for thing in chunk.things:
                self._place(things, camera, thing)
        for thing in self.traffic.movers(time, camera.s, self.lane):
            self._place(things, camera, thing)
        levels = bank().levels
        for middle, wall, ends in sorted(walls, key=lambda entry: -entry[0]):
            draw_wall(canvas, depth, camera, wall, ends, levels, light.table(wall.skin, middle, wall.lit))
        if light.wet:
            self._reflect(canvas, camera, light.wet)
        for z, item, where in sorted(things, key=lambda entry: -entry[0]):
            if item is None:
                wall, ends = where
                draw_wall(canvas, depth, camera, wall, ends, levels, light.table(wall.skin, z, wall.lit))
            else:
                self._draw_thing(canvas, depth, camera, item, where[0], z, owners)
        labels = (canvas >> 24).astype(np.uint8)
        return light.develop(canvas, self.world.rng(index, 5)), labels

    def _place(self, things: list[tuple[float, Thing | None, tuple]], camera: Camera, thing: Thing) -> None:
        """List a thing if it may be in view."""
        x, z = camera.locate(thing.x, thing.s)
        reach = MODELS[thing.model].length / 2 if thing.model in MODELS else 0.0
        if z > NEAR + reach + 0.4 and z < thing.seen and abs(x) < z * 0.75 / self.focal + 8.0:
            things.append((z, thing, (x,)))

    def _draw_thing(
        self,
        canvas: np.ndarray,
        depth: np.ndarray,
        camera: Camera,
        thing: Thing,
        x: float,
        z: float,
        owners: Owners | None,
    ) -> None:
        """Draw one sprite, choosing the view of vehicles and riders."""
        column = self.width / 2 + camera.focal * x / z
        row = float(camera.horizon_at(column)) + camera.focal * camera.height / z
        scale = camera.focal / z * thing.size
        angle = thing.heading - camera.yaw - float(np.arctan2(x, z))
        if thing.sprite is not None:
            sprite, mirrored = thing.sprite, thing.mirrored
        elif thing.model in MODELS:
            sprite, mirrored = view(thing.model, angle, z)
        else:
            _, figure, phase = thing.model.split()
            turn = abs(float(np.arcsin(np.sin(angle))))
            sprite = crowd()[f"cycle {min(4, round(turn / (np.pi / 8)))}"][int(figure)][int(phase)]
            mirrored = bool(np.sin(angle) < 0)
        if (sprite.top - sprite.bottom) * scale < 2.0:
            return
        table = self.world.light.table(thing.skin, z, thing.lit)
        blit(canvas, depth, sprite, column, row, scale, z, table, mirrored, owners, thing.key)

    def _draw_backdrop(self, canvas: np.ndarray, camera: Camera) -> None:
        """Distant trees and roofs along the horizon."""
        columns = np.arange(self.width)
        horizon = camera.horizon_at(columns + 0.5)
        azimuth = camera.yaw + np.arctan((columns + 0.5 - self.width / 2) / camera.focal)
        cell = (azimuth * (SKYLINE / (2 * np.pi))).astype(np.int64) % SKYLINE
        top = horizon - self.skyline_height[cell] * camera.focal
        r0, r1 = max(0, int(top.min())), min(self.height, int(horizon.max()) + 1)
        if r0 >= r1:
            return
        pixel = self.backdrop[np.where(self.skyline_is_tree[cell], 32 + 16, 64 + 18)]
        inside = np.arange(r0, r1)[:, None] >= top[None]
        np.copyto(canvas[r0:r1], pixel[None], where=inside)

    def _reflect(self, canvas: np.ndarray, camera: Camera, strength: float) -> None:
        """A wet ground mirrors what stands above the horizon; labels stay."""
        level = int(camera.horizon)
        count = min(level, self.height - level)
        if count < 8:
            return
        ground = canvas[level : level + count].view(np.uint8).reshape(count, self.width, 4)
        sky = canvas[level - count : level][::-1].view(np.uint8).reshape(count, self.width, 4)
        # Strongest at grazing angles, gone at the bottom of the frame.
        weight = (np.linspace(strength, 0.0, count) * 256).astype(np.uint16)[:, None, None]
        mixed = ground[..., :3].astype(np.uint16) * (256 - weight) + sky[..., :3].astype(np.uint16) * weight
        on_ground = np.isin(ground[..., 3], (3, 4))
        ground[..., :3] = np.where(on_ground[..., None], mixed >> 8, ground[..., :3])


def scene(seed: int, height: int = 384, width: int = 512, population: str = "street") -> tuple[np.ndarray, np.ndarray]:
    """One picture and its labels; every seed is another street, light, camera and moment. `population`: of POPULATIONS."""
    street = Street(seed, height, width, population)
    return street.frame(street.moment)
