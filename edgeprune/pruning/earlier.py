"""Options that meant something else in an earlier version: with what its checkpoints were trained, written out.

A checkpoint of that version holds the options that its recipe wrote, and nothing of those that were left open. What had a
default then, or none at all, has another one now (commits 39d7905, f7e5e45, d8e6a5e). A checkpoint of this version holds every
option, see `settle`; so a default that changes later is no concern of it.
"""

from collections.abc import Callable
from typing import Any

from edgeprune.model.policy import Shape
from edgeprune.pruning.methods.algm import ALGMOptions
from edgeprune.pruning.methods.decisions import ExitOptions
from edgeprune.pruning.methods.presets import CombinedOptions, STEPOptions
from edgeprune.pruning.methods.svit import SViTOptions
from edgeprune.pruning.schedules import spread

Options = dict[str, Any]
STEP_LEVELS = [(16, 0.1), (8, 0.2), (4, 0.2), (2, 0.15)]  # step's, whatever the grid


def _algm(options: ALGMOptions, shape: Shape) -> Options:
    """There was no other attention than the proportional one."""
    return {} if "proportional" in options.model_fields_set else {"proportional": True}


def _exits(options: ExitOptions, shape: Shape) -> Options:
    """The exits were before a half and two thirds of the blocks: of 24 before 12 and 16."""
    if options.exits is not None:
        return {}
    return {"exits": sorted({max(1, round(shape.depth * share)) for share in (6 / 12, 8 / 12)} - {shape.depth})}


def _levels(levels: list[tuple[Any, float]], shape: Shape) -> list[list[float]]:
    """Sides that do not divide the grid were left out, and nothing merged in their place."""
    height, width = shape.grid
    return [[side, share] for side, share in levels if not (height % side or width % side)]


def _step(options: STEPOptions, shape: Shape) -> Options:
    levels = STEP_LEVELS if options.levels is None else options.levels
    return _exits(options, shape) | {"levels": _levels(levels, shape)}


def _combined(options: CombinedOptions, shape: Shape) -> Options:
    found: Options = {"levels": _levels(options.levels, shape)}
    if options.exits is not None:
        found["exits"] = options.exits.model_dump(mode="json") | _exits(options.exits, shape)
    return found


def _svit(options: SViTOptions, shape: Shape) -> Options:
    """Where tokens do not come back there was a gate before every block, as there is with a value of `keep` for each."""
    gates = shape.depth - options.first
    if gates < 1 or options.comes_back:
        return {}
    return {"keep": list(spread(options.keep, gates))}


# policy -> the options that it had without naming them, of those that a checkpoint names and of its model
MEANT: dict[str, Callable[[Any, Shape], Options]] = {
    "algm": _algm,
    "svit": _svit,
    "dtop": _exits,
    "step": _step,
    "combined": _combined,
}
