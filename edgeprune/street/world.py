"""The endless street of one seed: its course, its light, and its stretches, laid out when first asked for."""

from __future__ import annotations

import math
import random
from collections import OrderedDict

import numpy as np

from edgeprune.street import colours
from edgeprune.street.districts import DISTRICTS, District
from edgeprune.street.layout import Builder
from edgeprune.street.photometry import Light
from edgeprune.street.population import Population
from edgeprune.street.things import Chunk

TURN = 2.0 * math.pi
KEPT_CHUNKS = 12  # more than are ever in view


class World:
    """An endless street. Everything follows from the seed; only the stretches last used are kept."""

    def __init__(self, seed: int, population: Population) -> None:
        self.seed, self.population = seed, population
        rng = self.rng(0, 0)
        self.light = Light(rng)
        self.left_hand = rng.random() < 0.85  # traffic keeps left, as in CamVid
        self.half_road = rng.uniform(3.2, 5.4)
        self.pavement = rng.uniform(2.0, 5.5)
        winter = rng.random() < 0.5
        self.bare_share = rng.uniform(0.4, 0.9) if winter else rng.uniform(0.0, 0.15)
        tint = (rng.uniform(0.9, 1.25), rng.uniform(0.9, 1.15), rng.uniform(0.8, 1.1))
        self.greens = [(r * tint[0], g * tint[1], b * tint[2]) for r, g, b in colours.GREENS]
        self.ground_colours = colours.ground_colours(rng, self.greens)
        self.bends = [
            (rng.uniform(0.0, 0.14) * length / 6.3, length, rng.uniform(0, 6.3)) for length in (150.0, 330.0, 610.0)
        ]
        self.wobble = [(rng.uniform(0.0, 0.5), rng.uniform(70.0, 160.0), rng.uniform(0, 6.3)) for _ in range(2)]
        self.busy = rng.uniform(0.3, 1.8)  # people and traffic, against the district's usual
        self.chunks: OrderedDict[int, Chunk] = OrderedDict()

    def rng(self, place: int, purpose: int) -> random.Random:
        """An independent generator for one place and purpose. Hashes of whole numbers do not vary between runs."""
        return random.Random(hash((self.seed, place, purpose)))

    def bend(self, s: float) -> float:
        """World x of the street's centre line at s, metres."""
        return math.fsum(a * math.sin(TURN * s / length + phase) for a, length, phase in self.bends)

    def bend_along(self, s: np.ndarray) -> np.ndarray:
        """`bend` at many places."""
        return np.sum([a * np.sin(TURN * s / length + phase) for a, length, phase in self.bends], axis=0)

    def bend_slope(self, s: float) -> float:
        """d(bend)/ds."""
        return math.fsum(a * TURN / length * math.cos(TURN * s / length + phase) for a, length, phase in self.bends)

    def kerb(self, s: float) -> float:
        """Half the carriageway's width at s, metres."""
        return self.half_road + math.fsum(a * math.sin(TURN * s / length + phase) for a, length, phase in self.wobble)

    def kerb_along(self, s: np.ndarray) -> np.ndarray:
        """`kerb` at many places."""
        return self.half_road + np.sum(
            [a * np.sin(TURN * s / length + phase) for a, length, phase in self.wobble], axis=0
        )

    def district(self, k: int) -> District:
        """The district of stretch k; it changes every few stretches."""
        return DISTRICTS[self.rng(k // 5, 1).choices(range(5), [33, 23, 14, 10, 20])[0]]

    def chunk(self, k: int) -> Chunk:
        """Stretch k, generated when first asked for."""
        if k in self.chunks:
            self.chunks.move_to_end(k)
            return self.chunks[k]
        made = Builder(self, k).build()
        self.chunks[k] = made
        if len(self.chunks) > KEPT_CHUNKS:
            self.chunks.popitem(last=False)
        return made
