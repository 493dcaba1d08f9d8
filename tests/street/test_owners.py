"""Whose each pixel is: exact masks, ids through time, and how much of a thing is hidden."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.data.datasets import load_data_set
from edgeprune.data.instances import box_of
from edgeprune.street.classes import CAR, CLASSES, PEDESTRIAN, POLE, SIGN, TREE
from edgeprune.street.ground import CHUNK
from edgeprune.street.owners import COUNTED, Frame, Key, Owners
from edgeprune.street.population import POPULATIONS
from edgeprune.street.skin import GAP, NEUTRAL, Skin
from edgeprune.street.sprites import Sprite, blit
from edgeprune.street.street import FRAMES_PER_SECOND, Street
from edgeprune.street.things import Thing

SMALL = (96, 128)
BLACK = [(0.0, 0.0, 0.0)]
WHOLE = np.full((4, 4), 32 + NEUTRAL, np.uint8)  # part 1 all over
NEAR, FAR = ("stretch", 1, 0), ("stretch", 1, 1)


class Scene:
    """A frame of 8x8 pixels, black and of class 0, on which sprites are drawn by hand: a texel is a pixel."""

    def __init__(self) -> None:
        self.canvas_HW = np.zeros((8, 8), np.uint32)
        self.depth_HW = np.full((8, 8), np.inf, np.float32)
        self.owners = Owners(8, 8)

    def draw(self, key: Key, texels: np.ndarray, column: float, row: float, distance: float, *labels: int) -> None:
        """A sprite whose foot's middle is at (row, column); it is told apart from others by `key`."""
        height, width = texels.shape
        sprite = Sprite(texels, -width / 2, width / 2, 0.0, height)
        table = Skin(BLACK * len(labels), list(labels)).table(np.ones(3, np.float32), np.zeros(3, np.float32))
        blit(self.canvas_HW, self.depth_HW, sprite, column, row, 1.0, distance, table, False, self.owners, key)

    def frame(self) -> Frame:
        label_HW = (self.canvas_HW >> 24).astype(np.uint8)
        return Frame(np.zeros((8, 8, 3), np.uint8), label_HW, *self.owners.seen(label_HW))


def test_a_nearer_thing_hides_a_share_of_one_behind() -> None:
    scene = Scene()
    scene.draw(FAR, WHOLE, 4, 6, 20.0, CAR)  # columns 2 to 5, rows 2 to 5
    scene.draw(NEAR, WHOLE, 5, 7, 5.0, CAR)  # columns 3 to 6, rows 3 to 6
    frame = scene.frame()
    assert ["".join(map(str, row)) for row in frame.thing_HW[2:7, 2:7]] == ["11110", "12222", "12222", "12222", "02222"]
    far, near = frame.things
    assert (far.key, far.label, far.pixels, far.silhouette, far.occlusion) == (FAR, CAR, 7, 16, 1 - 7 / 16)
    assert (near.key, near.pixels, near.occlusion) == (NEAR, 16, 0.0)


def test_a_thing_that_is_wholly_hidden_is_none() -> None:
    scene = Scene()
    scene.draw(FAR, WHOLE, 4, 6, 20.0, CAR)
    scene.draw(NEAR, WHOLE, 4, 6, 5.0, PEDESTRIAN)
    assert [thing.key for thing in scene.frame().things] == [NEAR]
    scene = Scene()
    scene.depth_HW[:] = 10.0
    scene.draw(FAR, WHOLE, 4, 6, 20.0, CAR)
    assert not scene.frame().things and not scene.frame().thing_HW.any()


def test_a_wall_hides_and_what_no_one_counts_hides_too() -> None:
    scene = Scene()
    scene.depth_HW[:, 2:4] = 10.0  # a wall before its left half
    scene.draw(FAR, WHOLE, 4, 6, 20.0, CAR)
    scene.draw(NEAR, WHOLE, 4, 3, 5.0, TREE)  # before its first row
    frame = scene.frame()
    (car,) = frame.things
    assert (car.pixels, car.silhouette, car.occlusion) == (6, 16, 10 / 16)
    assert (frame.thing_HW == 1).sum() == 6 and (frame.thing_HW == 1)[3:6, 4:6].all()
    scene.canvas_HW[4, 4] = TREE << 24  # a fence or a hedge is drawn without an owner
    frame = scene.frame()
    assert frame.things[0].pixels == 5 and frame.thing_HW[4, 4] == 0


def test_what_lies_beyond_the_frame_is_no_silhouette() -> None:
    scene = Scene()
    scene.draw(FAR, WHOLE, 0, 2, 20.0, CAR)  # columns -2 to 1, rows -2 to 1
    scene.draw(NEAR, WHOLE, 40, 6, 20.0, CAR)  # all of it beyond
    (car,) = scene.frame().things
    assert (car.pixels, car.silhouette, car.occlusion) == (4, 4, 0.0)


def test_gaps_of_a_railing_or_a_wheel_belong_to_the_thing() -> None:
    scene = Scene()
    wheel = WHOLE.copy()
    wheel[1:3, 1:3], wheel[0, 0] = GAP, 0
    scene.draw(FAR, wheel, 4, 6, 20.0, PEDESTRIAN)
    (thing,) = scene.frame().things
    assert (thing.pixels, thing.silhouette) == (15, 15) and scene.frame().thing_HW[2, 2] == 0


def test_a_sign_on_its_pole_is_one_of_each() -> None:
    scene = Scene()
    texels = np.full((4, 2), 32 + NEUTRAL, np.uint8)
    texels[:2] = 64 + NEUTRAL
    scene.draw(FAR, texels, 4, 6, 20.0, POLE, SIGN)
    scene.draw(NEAR, WHOLE[:2], 4, 6, 5.0, CAR)  # before the pole alone
    frame = scene.frame()
    assert [(thing.key, thing.label, thing.pixels, thing.silhouette) for thing in frame.things] == [
        (FAR, SIGN, 4, 4),
        (NEAR, CAR, 8, 8),
    ]
    assert [(frame.thing_HW == place).sum() for place in (1, 2)] == [4, 8]


@pytest.mark.parametrize("population", POPULATIONS)
def test_masks_are_the_labels_and_the_frame_is_what_it_was(population: str) -> None:
    """All pixels of a class that is counted are some thing's; of the others none is: masks are one map, and so disjoint."""
    hidden = 0
    for seed in range(8):
        street = Street(seed, *SMALL, population)
        image_HW3, label_HW = street.frame(seed * 7)
        frame = street.frame_with_things(seed * 7)
        assert np.array_equal(frame.image_HW3, image_HW3) and np.array_equal(frame.label_HW, label_HW)
        assert np.array_equal(frame.thing_HW > 0, np.isin(label_HW, COUNTED))
        assert frame.thing_HW.max() == len(frame.things)
        for place, thing in enumerate(frame.things, 1):
            own_HW = frame.thing_HW == place
            assert own_HW.sum() == thing.pixels > 0 and (label_HW[own_HW] == thing.label).all()
            assert thing.pixels <= thing.silhouette and 0.0 <= thing.occlusion < 1.0
            hidden += thing.occlusion > 0.3
        assert len({(thing.key, thing.label) for thing in frame.things}) == len(frame.things)
    assert hidden > 20


def test_the_shipped_sets_count_what_the_renderer_does() -> None:
    for name in ("street", "street-small", "street-hd"):
        data_set = load_data_set(name)
        assert data_set.things == [CLASSES[label] for label in COUNTED]


def masks(frame: Frame) -> dict[tuple[Key, int], np.ndarray]:
    """The mask of each thing, by who it is."""
    return {(thing.key, thing.label): frame.thing_HW == place for place, thing in enumerate(frame.things, 1)}


def test_a_thing_keeps_its_id_and_moves_little() -> None:
    kept, moves = [], []
    for seed in range(6):
        street = Street(seed, 192, 256)
        before = masks(street.frame_with_things(300))
        for index in range(301, 305):
            now = masks(street.frame_with_things(index))
            for who, mask_HW in before.items():
                # far from the edges, over which things leave, and not about to be hidden or too small to be drawn
                if mask_HW.sum() < 60 or mask_HW[:, :24].any() or mask_HW[:, -24:].any() or mask_HW[-24:].any():
                    continue
                kept.append(who in now)
                if who in now:
                    ends = (np.array(box_of(each)).reshape(2, 2) for each in (mask_HW, now[who]))
                    one, other = (each.mean(0) for each in ends)
                    moves.append(float(np.abs(other - one).max()))
            before = now
    assert len(kept) > 100 and np.mean(kept) > 0.97
    assert np.median(moves) < 2.0 and np.quantile(moves, 0.95) < 8.0


def test_a_mover_is_the_same_one_for_as_long_as_it_is_near() -> None:
    """Over 50 s: slots come into range and leave it, and vehicles ahead are replaced out of sight."""
    met = set()
    for seed in range(4):
        street = Street(seed, *SMALL)
        before: dict[Key, Thing] = {}
        for index in range(750):
            time = index / FRAMES_PER_SECOND
            movers = street.traffic.movers(time, street.camera(time).s, street.lane)
            now = {thing.key: thing for thing in movers}
            assert len(now) == len(movers)
            for key in now.keys() & before.keys():
                assert (now[key].size, now[key].model[:5]) == (before[key].size, before[key].model[:5])
                assert abs(now[key].s - before[key].s) < 5.0
            before = now
            met |= {(seed, key) for key in now}
    assert len(met) > 100


def test_ids_do_not_depend_on_which_frames_were_asked_for_before() -> None:
    street = Street(4, *SMALL)
    first = street.frame_with_things(40)
    street.frame_with_things(9_000)  # all stretches and movers that were kept are others by now
    for again in (street.frame_with_things(40), Street(4, *SMALL).frame_with_things(40)):
        assert again.things == first.things and np.array_equal(again.thing_HW, first.thing_HW)


def test_an_id_says_what_a_thing_is_and_where_it_stands() -> None:
    street = Street(2, *SMALL)
    keys = {thing.key for index in (100, 120) for thing in street.frame_with_things(index).things}
    assert {key[0] for key in keys} == {"stretch", "stream"}
    for kind, stretch, place in keys:
        if kind == "stretch":
            thing = street.world.chunk(stretch).things[place]
            assert thing.key == (kind, stretch, place)
            assert abs(thing.s - (stretch + 0.5) * CHUNK) < CHUNK
