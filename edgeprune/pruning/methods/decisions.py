"""What a combination of methods decides, and in which order: superpatches before the network, then exits and gates."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from edgeprune.base.errors import InputError
from edgeprune.base.reading import Strict
from edgeprune.pruning.methods.svit import SViTOptions

Share = Annotated[float, Field(gt=0, le=1)]
Levels = list[tuple[Literal[2, 4, 8, 16], Share]]
ABOUT_LEVELS = (
    "side of the superpatches in patches, which must divide the grid, and the share of the image that merges into them; "
    "[] for none"
)
SIDES = (16, 8, 4, 2)
# the blocks before the exits: DToP's of 12 blocks and of 24
EXITS = {12: (6, 8), 24: (8, 16)}


class ExitOptions(Strict):
    """What policies with exits have to set."""

    exits: list[int] | None = Field(
        None,
        description="blocks before each exit; by default 6 and 8 of 12 and 8 and 16 of 24, as in DToP; of another depth in "
        "the proportion of the nearer of these",
    )
    keep: list[Share] = Field(
        [0.8, 0.6],
        min_length=1,
        description="share of the tokens there before the first exit that remain after each, spread evenly over the exits",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="probability of its class at which a token leaves; .9 base"
    )
    context: int = Field(5, ge=0, description="most confident tokens of each class that stay all the same")


class CombinedOptions(Strict):
    """Settings of the `combined` policy: any two of the three parts, or all."""

    levels: Levels = Field([], description=ABOUT_LEVELS)
    gates: SViTOptions | None = Field(None, description="SViT's settings; ratios are of the tokens that are there")
    exits: ExitOptions | None = Field(None, description="DToP's settings")


class Kind(Enum):
    """What a decision does with a token."""

    MERGE = "merge"
    EXIT = "exit"
    GATE = "gate"


@dataclass(frozen=True)
class Decision:
    """`block`: that it precedes. `number`: among those of its kind. `place`: among all, where a bucket has its count."""

    kind: Kind
    block: int
    number: int
    place: int


def in_order(sides: Sequence[int], exits: Sequence[int], gated: Sequence[int]) -> list[Decision]:
    """All decisions: superpatches, then exits and gates by block."""
    inside = [(block, 0, Kind.EXIT, number) for number, block in enumerate(exits)]
    inside += [(block, 1, Kind.GATE, number) for number, block in enumerate(gated)]
    inside.sort(key=lambda each: each[:2])
    found = [Decision(Kind.MERGE, 0, number, number) for number in range(len(sides))]
    return found + [
        Decision(kind, block, number, place) for place, (block, _, kind, number) in enumerate(inside, len(found))
    ]


def dividing(grid: tuple[int, int]) -> list[int]:
    """The sides of superpatches that divide the grid, the largest first."""
    return [side for side in SIDES if not (grid[0] % side or grid[1] % side)]


def falling_sides(
    grid: tuple[int, int], levels: Sequence[tuple[int, float]]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Sides, the largest first, and their shares of the image.

    Raises:
        InputError: a side that is named twice or does not divide the grid, or shares of more than the image.
    """
    sides = [side for side, _ in levels]
    written = [list(level) for level in levels]
    if len(set(sides)) < len(sides) or sum(area for _, area in levels) > 1 + 1e-6:
        raise InputError(f"policy: levels={written}: each side once, shares of 1 together at most")
    fitting = dividing(grid)
    if set(sides) - set(fitting):
        wrong = ", ".join(str(side) for side in sorted(set(sides) - set(fitting)))
        can = f"sides that do: {', '.join(map(str, fitting))}" if fitting else "no side does"
        raise InputError(
            f"policy: levels={written}: {wrong} does not divide the grid of {grid[0]}x{grid[1]} patches; {can}. Leave it out, "
            f"or choose an input whose sides are multiples of {16 * max(sides)} pixels"
        )
    ordered = sorted(levels, reverse=True)
    return tuple(side for side, _ in ordered), tuple(area for _, area in ordered)


def exit_places(depth: int, exits: Sequence[int] | None) -> tuple[int, ...]:
    """The blocks that exits precede.

    Raises:
        InputError: not between two blocks, or not one after the other.
    """
    if exits is None:
        known = min(EXITS, key=lambda blocks: (abs(blocks - depth), blocks))
        exits = sorted({max(1, round(depth * place / known)) for place in EXITS[known]} - {depth})
    if list(exits) != sorted(set(exits)) or any(not 0 < place < depth for place in exits):
        raise InputError(
            f"policy: exits={list(exits)}: expected to rise, each between two of the model's {depth} blocks"
        )
    return tuple(exits)


def gated_blocks(depth: int, options: SViTOptions | None) -> tuple[int, ...]:
    """The blocks that gates precede.

    Raises:
        InputError: none is left to gate, or an option that has no form in a combination.
    """
    if options is None:
        return ()
    if options.first >= depth:
        raise InputError(f"policy: first={options.first} leaves no block to gate, the model has {depth}")
    if options.gate != "svit" or not (options.reactivation and options.preservation):
        raise InputError(
            "policy: gates have no form with merging or exits with another gate, nor without preservation or reactivation"
        )
    return tuple(range(options.first, depth))
