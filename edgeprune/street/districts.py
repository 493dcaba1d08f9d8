"""The kinds of town the street runs through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class District:
    """The character of a part of town: how dense things are, per stretch and side unless said otherwise."""

    built: float  # share of the frontage with buildings
    storeys: tuple[int, int]
    setback: tuple[float, float]  # metres from the pavement to the facades
    masonry: tuple[str, ...]
    shops: float  # share of ground floors that are shop fronts
    pitched: float  # share of pitched roofs
    trees: float
    verge: float  # chance of a grass verge
    parked: float  # share of kerb taken by parked cars
    people: float
    furniture: float
    railing: float  # chance of a railing at the kerb
    frontage: tuple[str, ...]  # what bounds the gardens


DISTRICTS = (
    District(
        0.97, (2, 4), (0.0, 0.6), ("brick", "plaster", "stone"), 0.75, 0.7, 0.5, 0.0, 0.15, 5.0, 2.2, 0.4, ("railing",)
    ),
    District(
        0.95,
        (2, 3),
        (1.0, 3.0),
        ("brick", "brick", "plaster"),
        0.05,
        0.95,
        0.7,
        0.05,
        0.45,
        1.6,
        1.4,
        0.15,
        ("low wall", "hedge", "railing", "boards"),
    ),
    District(
        0.6,
        (1, 2),
        (5.0, 9.0),
        ("brick", "plaster"),
        0.0,
        1.0,
        2.6,
        0.5,
        0.2,
        0.9,
        1.3,
        0.15,
        ("hedge", "boards", "low wall", "hedge", "mesh"),
    ),
    District(
        0.15,
        (1, 3),
        (4.0, 10.0),
        ("brick", "stone"),
        0.0,
        0.8,
        4.0,
        0.65,
        0.1,
        1.4,
        1.3,
        0.35,
        ("railing", "hedge", "mesh", "barrier", "boards"),
    ),
    District(
        0.75,
        (3, 6),
        (1.0, 6.0),
        ("concrete", "brick", "curtain", "stone"),
        0.25,
        0.1,
        1.0,
        0.2,
        0.15,
        2.2,
        1.9,
        0.45,
        ("barrier", "hoarding", "mesh", "railing", "low wall"),
    ),
)
