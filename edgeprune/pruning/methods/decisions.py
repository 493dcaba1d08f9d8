"""What a combination of methods decides, and in which order: superpatches before the network, then exits and gates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from edgeprune.base.errors import InputError
from edgeprune.base.reading import Strict
from edgeprune.model.policy import Shape
from edgeprune.model.schedule import Schedule
from edgeprune.pruning.cells import count_cells
from edgeprune.pruning.methods.svit import SViTOptions
from edgeprune.pruning.schedules import blocks_from, spread
from edgeprune.pruning.superpatches import cells_apart, round_up_merges

Share = Annotated[float, Field(gt=0, le=1)]
Levels = list[tuple[Literal[2, 4, 8, 16], Share]]
ABOUT_LEVELS = (
    "side of the superpatches in patches, of which a whole one must fit the grid, and the share of the image that merges into "
    "them; what whole ones cannot hold goes to the next smaller side, and patches past the last whole one stay single; [] for "
    "none"
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


@dataclass(frozen=True)
class Parts:
    """What a combination is made of: the superpatches' sides and shares of the image, SViT's settings and DToP's."""

    levels: Sequence[tuple[int, float]] = ()
    gates: SViTOptions | None = None
    exits: ExitOptions | None = None


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


@dataclass(frozen=True)
class CombinedSchedule(Schedule):
    """Counts of whole superpatches, which never rise from one exit to the next; no gate keeps more than are there. The least
    pure cells stay apart, the least sure tokens stay, the best are kept.

    Attributes:
        decisions: superpatches, the largest side first; then exits and gates in the order of the blocks that they precede,
            an exit before a gate.
        sides: of the superpatches.
    """

    decisions: tuple[Decision, ...] = ()
    sides: tuple[int, ...] = ()

    def round_up(self, counts: Sequence[int]) -> tuple[int, ...]:
        _, found = round_up_merges(counts, self.tokens, self.grid, self.sides)
        there = found[-1] if found else self.tokens
        for decision in self.decisions[len(self.sides) :]:
            wanted = counts[decision.place]
            if decision.kind is Kind.EXIT:
                there = wanted = min(max(counts[decision.place :]), there)
            found.append(min(wanted, there))
        return tuple(found)

    def candidate_grid(self, decision: int) -> tuple[int, int]:
        """Of superpatches the raster of the whole cells of their side."""
        side = self.sides[decision] if decision < len(self.sides) else 1
        return self.grid[0] // side, self.grid[1] // side

    def merges(self, counts: Sequence[int]) -> list[int]:
        """How many cells of each side merge at these counts."""
        return round_up_merges(counts, self.tokens, self.grid, self.sides)[0]

    def candidates(self, counts: Sequence[int]) -> list[int]:
        return [*cells_apart(self.merges(counts), self.grid, self.sides), *counts[len(self.sides) :]]

    @property
    def candidate_shares(self) -> tuple[float, ...]:
        """Cells that stay apart, of all of their side; tokens that remain, or are kept, of the grid."""
        cells = (
            count / max(1, count_cells(self.grid, side))  # a region may have no large one
            for count, side in zip(self.target_candidates, self.sides, strict=False)
        )
        return (*cells, *self.target_shares[len(self.sides) :])


def schedule_parts(shape: Shape, parts: Parts) -> CombinedSchedule:
    """Puts the decisions of all parts in order.

    Raises:
        InputError: a part does not fit the model, or there is none.
    """
    exits = parts.exits or ExitOptions(exits=[])
    sides, areas = falling_sides(shape.grid, parts.levels)
    exited, gated = exit_blocks(shape.depth, exits.exits), gated_blocks(shape, parts.gates)
    decisions = in_order(sides, exited, gated)
    if not decisions:
        raise InputError(
            "policy: no exits, no gates and no superpatches: nothing is left to decide; give one of `levels`, `gates` "
            "and `exits`"
        )
    ratios = {
        Kind.MERGE: [area * (1 - side**-2) for side, area in zip(sides, areas, strict=True)],
        Kind.EXIT: spread(exits.keep, len(exited)),
        Kind.GATE: spread(parts.gates.keep, len(gated)) if parts.gates else (),
    }
    return CombinedSchedule(
        shape.depth,
        shape.grid,
        gated=tuple(decision.block for decision in decisions),
        target_shares=shares_left(decisions, ratios),
        # all superpatches are known after the trunk, and of the others the first where it follows the trunk
        chosen_by=max(0, len(sides) - 1),
        merging=len(sides),
        least=parts.gates.least if parts.gates else None,
        decisions=decisions,
        sides=sides,
    )


def in_order(sides: Sequence[int], exits: Sequence[int], gated: Sequence[int]) -> tuple[Decision, ...]:
    """All decisions: superpatches, then exits and gates by block."""
    inside = [(block, 0, Kind.EXIT, number) for number, block in enumerate(exits)]
    inside += [(block, 1, Kind.GATE, number) for number, block in enumerate(gated)]
    inside.sort(key=lambda each: each[:2])
    merges = [(0, 0, Kind.MERGE, number) for number in range(len(sides))]
    return tuple(Decision(kind, block, number, place) for place, (block, _, kind, number) in enumerate(merges + inside))


def shares_left(decisions: Sequence[Decision], ratios: Mapping[Kind, Sequence[float]]) -> tuple[float, ...]:
    """The share of tokens that remain after each decision.

    Args:
        ratios: of superpatches of each side the share of the tokens that merging them takes away; of each exit what it leaves
            of all that merging left; of each gate what it keeps of the tokens that are there.
    """
    shares = []
    merged = there = 1.0
    for decision in decisions:
        ratio = ratios[decision.kind][decision.number]
        if decision.kind is Kind.MERGE:
            there = merged = merged - ratio
        elif decision.kind is Kind.EXIT:
            there = merged * ratio
        shares.append(there * ratio if decision.kind is Kind.GATE else there)
    return tuple(shares)


# ------------------------------------------------------------------------------------------------ what fits a model


def fitting(grid: tuple[int, int]) -> list[int]:
    """The sides of superpatches of which the grid holds a whole one, the largest first."""
    return [side for side in SIDES if count_cells(grid, side)]


def falling_sides(
    grid: tuple[int, int], levels: Sequence[tuple[int, float]]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Sides, the largest first, and the shares of the image that merge into them, see `held`.

    Raises:
        InputError: a side that is named twice or that no whole superpatch fits, or shares of more than the image.
    """
    sides = [side for side, _ in levels]
    written = [list(level) for level in levels]
    if len(set(sides)) < len(sides) or sum(area for _, area in levels) > 1 + 1e-6:
        raise InputError(f"policy: levels={written}: each side once, shares of 1 together at most")
    fit = fitting(grid)
    if set(sides) - set(fit):
        raise InputError(
            f"policy: levels={written}: the grid of {grid[0]}x{grid[1]} patches holds no whole {max(sides)}x{max(sides)}; "
            f"sides that fit: {', '.join(map(str, fit)) or 'none'}. Leave the others out, or choose a larger input"
        )
    ordered = sorted(levels, reverse=True)
    return tuple(side for side, _ in ordered), held(grid, ordered)


def held(grid: tuple[int, int], levels: Sequence[tuple[int, float]]) -> tuple[float, ...]:
    """The shares of the image that merge where whole cells hold no more: what one side cannot take away from the tokens, the
    next smaller one does, as far as its cells outside the larger ones reach.

    Args:
        levels: side and share of the image, the largest side first.
    """
    areas: list[float] = []
    missing = 0.0  # of the tokens, that should have gone
    for side, area in levels:
        gone = 1 - side**-2  # of the tokens of a cell
        wanted = area + missing / gone
        areas.append(min(wanted, count_cells(grid, side) * side**2 / (grid[0] * grid[1]) - sum(areas)))
        missing = (wanted - areas[-1]) * gone
    return tuple(areas)


def exit_blocks(depth: int, exits: Sequence[int] | None) -> tuple[int, ...]:
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


def gated_blocks(shape: Shape, options: SViTOptions | None) -> tuple[int, ...]:
    """The blocks that gates precede.

    Raises:
        InputError: none is left to gate, or an option that has no form in a combination.
    """
    if options is None:
        return ()
    blocks = blocks_from(shape, options.first)
    if options.gate != "svit" or not options.comes_back:
        raise InputError(
            "policy: gates have no form with merging or exits with another gate, nor without preservation or reactivation"
        )
    return blocks
