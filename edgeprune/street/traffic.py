"""What moves: cars, cyclists and walkers, as functions of time, so that any frame can be drawn without the ones before.

Each stream is an endless row of slots that drifts along the street at one speed; a slot's number decides whether it is
taken and by whom.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edgeprune.street import colours
from edgeprune.street.owners import Key
from edgeprune.street.people import PHASES, crowd
from edgeprune.street.skin import Skin
from edgeprune.street.things import Thing
from edgeprune.street.world import World

BEHIND, AHEAD = 2.0, 130.0  # metres around the camera in which movers are drawn
REPLACED = 45.0  # seconds


@dataclass(frozen=True)
class Occupant:
    """Who takes a slot."""

    skin: Skin
    offset: float  # metres along the street from the slot's middle
    lateral: float  # -1..1 within the stream's width
    size: float
    model: str  # of a vehicle
    figure: int
    pace: float  # gait cycles per second


class Traffic:
    """All movers of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        rng = world.rng(0, 3)
        self.oncoming_speed = rng.uniform(4.0, 12.0)
        self.gap = rng.uniform(14.0, 45.0) / world.busy**0.5
        self.lead_gap = rng.uniform(8.0, 40.0)
        self.leads = rng.choices((0, 1, 2, 3), (4, 4, 2, 1))[0]
        self.lead_phase = rng.uniform(0.0, 6.3)
        self.walk_speeds = [rng.uniform(0.9, 1.5) for _ in range(4)]
        self.walk_share = world.population.people * min(0.9, 0.45 * world.busy)
        self.cycle_share = world.population.cyclists * rng.uniform(0.3, 0.95)
        # Bounded: only the slots in view are asked for, frame after frame.
        self.occupant = lru_cache(maxsize=256)(self._occupant)

    def _occupant(self, stream: int, slot: int, kind: str, share: float) -> Occupant | None:
        rng = self.world.rng(slot, 100 + stream)
        if rng.random() > share:
            return None
        if kind == "vehicle":
            model = rng.choices(
                ("hatchback", "saloon", "estate", "suv", "van", "bus", "double decker", "lorry"),
                (9, 6, 4, 3, 3, 0.9, 0.6, 0.7),
            )[0]
            skin = colours.vehicle(rng, model in ("bus", "double decker", "lorry"))
        else:
            model, skin = "", colours.person(rng, kind == "cyclist")
        size = rng.uniform(0.9, 1.08) if model == "" else rng.uniform(0.96, 1.04)
        return Occupant(
            skin, rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0), size, model, rng.randrange(10), rng.uniform(0.8, 1.1)
        )

    def movers(self, time: float, camera_s: float, camera_lane: float) -> list[Thing]:
        """Everything that moves and may be in view at `time` seconds. camera_lane: l of the camera's lane, metres."""
        world = self.world
        things: list[Thing] = []
        lane = 1.0 if camera_lane < 0 else -1.0  # side of the oncoming lane
        half = world.half_road
        # Vehicles ahead in our lane keep a gap that comes and goes. Every REPLACED seconds they draw away out of sight
        # and others fall back into view.
        turn, part = divmod(time, REPLACED)
        away = max(0.0, 1.0 - min(part, REPLACED - part) / 7.0)
        for k in range(self.leads):
            sway = 1.0 + 0.5 * np.sin(0.11 * time + self.lead_phase + k)
            gap = self.lead_gap * sway + 5.0 + k * (self.lead_gap + 7.0) + 150.0 * away**2
            slot = k + 10 * int(turn)
            who = self.occupant(0, slot, "vehicle", 0.85)
            if who is not None:
                s = camera_s + gap + (4.0 if "b" in who.model else 0.0)
                self._vehicle(things, who, s, camera_lane, 0.0, ("stream", 0, slot))
        self._stream(things, 1, "vehicle", time, -self.oncoming_speed, self.gap, 0.55, camera_s, lane * half * 0.5, 0.2)
        self._stream(things, 2, "cyclist", time, 4.5, 22.0, self.cycle_share, camera_s, -lane * (half - 1.0), 0.5)
        self._stream(things, 3, "cyclist", time, -4.5, 28.0, self.cycle_share, camera_s, lane * (half - 1.0), 0.5)
        for k, speed in enumerate(self.walk_speeds):
            side, way = (-1, 1)[k % 2], (1, -1)[k // 2]
            middle = side * (half + world.pavement * (0.35 if k < 2 else 0.7))
            self._stream(things, 4 + k, "walker", time, way * speed, 9.0, self.walk_share, camera_s, middle, 0.4)
        return things

    def _stream(
        self,
        things: list[Thing],
        stream: int,
        kind: str,
        time: float,
        speed: float,
        gap: float,
        share: float,
        camera_s: float,
        lateral: float,
        width: float,
    ) -> None:
        drift = speed * time
        first = int(np.floor((camera_s - BEHIND - drift) / gap))
        last = int(np.ceil((camera_s + AHEAD - drift) / gap))
        for slot in range(first, last + 1):
            who = self.occupant(stream, slot, kind, share)
            if who is None:
                continue
            s = slot * gap + who.offset * gap * 0.3 + drift
            if not camera_s - BEHIND < s < camera_s + AHEAD:
                continue
            l = lateral + who.lateral * width
            heading = 0.0 if speed > 0 else np.pi
            key: Key = ("stream", stream, slot)
            if kind == "vehicle":
                self._vehicle(things, who, s, l, heading, key)
                continue
            x = self.world.bend(s) + l
            phase = int((time * who.pace + who.offset) * PHASES) % PHASES
            figures = crowd()
            if kind == "walker":
                sprite = figures["along"][who.figure % len(figures["along"])][phase]
                seen = self.world.population.people_range
                things.append(Thing(x, s, who.skin, who.size, who.lateral < 0, sprite, seen=seen, key=key))
            else:
                # The view angle of a rider is settled when the frame is drawn, from model "rider".
                seen, model = self.world.population.people_range, f"rider {who.figure % 2} {phase}"
                things.append(Thing(x, s, who.skin, who.size, model=model, heading=heading, seen=seen, key=key))

    def _vehicle(self, things: list[Thing], who: Occupant, s: float, l: float, heading: float, key: Key) -> None:
        x, turned = self.world.bend(s) + l, heading + self.world.bend_slope(s)
        things.append(Thing(x, s, who.skin, who.size, model=who.model, heading=turned, key=key))
