"""How many things a street has, and how far away they are still there: what makes things large or small in the frame."""

from __future__ import annotations

from dataclasses import dataclass

FARTHEST = 150.0  # metres ahead of the camera


@dataclass(frozen=True)
class Population:
    """Numbers are factors of what a district or a street has by itself, ranges are metres ahead of the camera."""

    furniture: float = 1.0  # posts, lamps, signs and lights
    people: float = 1.0
    cyclists: float = 1.0
    furniture_range: float = FARTHEST
    people_range: float = FARTHEST  # of cyclists too


# `street` is full of people and signs to the horizon. `camvid` was fitted to the numbers, heights and places of things in
# CamVid's training labels, by coordinate descent, before any model saw it; how near it comes: docs/data.md.
POPULATIONS = {
    "street": Population(),
    "camvid": Population(furniture=1.4, people=0.7, cyclists=0.4, furniture_range=60.0, people_range=40.0),
}
