"""Schedules that several methods share: counts that never rise, and values spread over decisions and decisions over blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.model.schedule import Schedule

Value = TypeVar("Value")


@dataclass(frozen=True)
class FallingSchedule(Schedule):
    """The schedule of a method whose tokens leave for good: counts never rise.

    Raises:
        InputError: the target's shares do.
    """

    def __post_init__(self) -> None:
        if list(self.target_shares) != sorted(self.target_shares, reverse=True):
            raise InputError(f"policy: keep={list(self.target_shares)} rises, but a token that left does not come back")

    def round_up(self, counts: Sequence[int]) -> tuple[int, ...]:
        return tuple(max(counts[decision:]) for decision in range(len(counts)))


def blocks_from(shape: Shape, first: int) -> tuple[int, ...]:
    """The blocks from `first` on, for methods that decide before each of them.

    Raises:
        InputError: there is none.
    """
    if first >= shape.depth:
        raise InputError(f"policy: first={first} leaves no block to gate, the model has {shape.depth}")
    return tuple(range(first, shape.depth))


def evenly_spaced(shape: Shape, stages: int) -> tuple[int, ...]:
    """The blocks that stages at even distances precede: 3, 6 and 9 of 12, in proportion for other depths.

    Raises:
        InputError: more stages than there are places between blocks.
    """
    if stages >= shape.depth:
        raise InputError(f"policy: {stages} stages need a model of {stages + 1} blocks or more, this has {shape.depth}")
    return tuple((stage + 1) * shape.depth // (stages + 1) for stage in range(stages))


def spread(values: Sequence[Value], decisions: int) -> tuple[Value, ...]:
    """Few values over many decisions, in turn and in equal parts: .7 x3, .49 x3, .343 x3 for nine."""
    return tuple(values[decision * len(values) // decisions] for decision in range(decisions))
