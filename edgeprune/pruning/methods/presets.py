"""Combinations as data: the settings that a method has, and the parts that they stand for.

- CTS: cells of 2x2 patches that hold one class share a token (Lu, de Geus, Dubbelman, "Content-aware Token Sharing for
  Efficient Semantic Segmentation with Vision Transformers", CVPR 2023).
- DToP: tokens that an auxiliary head is sure of leave early, their logits stay (Tang et al., "Dynamic Token Pruning in Plain
  Vision Transformers for Semantic Segmentation", ICCV 2023).
- STEP: superpatches of several sizes by a CNN that looks at the image (dCTS), then early exit ("STEP: SuperToken and
  Early-Pruning for Efficient Semantic Segmentation", Proust et al. 2025); it builds on CTS and on DToP.
- CTS and SViT: cells share a token before the network, and gates skip blocks for the tokens that remain.
- `combined`: any two of the three parts, or all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from edgeprune.base.reading import Strict
from edgeprune.model.policy import Shape
from edgeprune.pruning.methods.decisions import (
    ABOUT_LEVELS,
    ExitOptions,
    Levels,
    Parts,
    Share,
    exit_blocks,
    fitting,
)
from edgeprune.pruning.methods.svit import SViTOptions

Grid = tuple[int, int]
Chosen = dict[str, Any]


class CTSOptions(Strict):
    """Settings of the `cts` policy; the paper merges a constant number of cells."""

    keep: float = Field(
        0.56,
        ge=0.25,
        le=1,
        description="share of the tokens that remains; the paper takes up to 44% away. On an odd grid the last row or column "
        "stays single",
    )


class DToPOptions(ExitOptions):
    """Settings of the `dtop` policy; by default 78% of the token-layers remain, the paper's 86.8 of 109.9 GFLOPs."""

    keep: list[Share] = Field(
        [0.7, 0.5],
        min_length=1,
        description="share of the tokens that remains after each exit, spread evenly over the exits",
    )


class STEPOptions(ExitOptions):
    """Settings of the `step` policy. By default superpatches leave 40% of the tokens, as the paper claims, and 40% of these
    leave early; how the paper shares the sizes is not published."""

    levels: Levels | None = Field(
        None,
        description=f"{ABOUT_LEVELS}; default: those of 16 (a tenth of the image), 8 (.2), 4 (.2) and 2 (.15) that fit the "
        "grid, of which the largest takes so much that 40% of the tokens are left all the same",
    )


class CTSSViTOptions(SViTOptions):
    """Settings of the `cts-svit` policy: SViT's, whose ratios are of the tokens that merging leaves."""

    merged: float = Field(
        0.56, ge=0.25, le=1, description="share of the tokens that remains when cells have merged; the paper's least"
    )


class CombinedOptions(Strict):
    """Settings of the `combined` policy."""

    levels: Levels = Field([], description=ABOUT_LEVELS)
    gates: SViTOptions | None = Field(None, description="SViT's settings; ratios are of the tokens that are there")
    exits: ExitOptions | None = Field(None, description="DToP's settings")


def level_of_cells(keep: float) -> list[tuple[int, float]]:
    """The level of 2x2 superpatches that leaves this share of the tokens."""
    return [(2, (1 - keep) / 0.75)]


STEP_SHARES = {16: 0.1, 8: 0.2, 4: 0.2, 2: 0.15}  # of the image, where a whole superpatch of each fits the grid
STEP_MERGED = sum(share * (1 - side**-2) for side, share in STEP_SHARES.items())  # so many of the tokens go


def step_levels(grid: Grid) -> list[tuple[int, float]]:
    """All sides that fit the grid, which no model has under 2x2; on 24x32 patches all four."""
    largest, *others = fitting(grid)
    rest = sum(STEP_SHARES[side] * (1 - side**-2) for side in others)
    of_largest = round((STEP_MERGED - rest) / (1 - largest**-2), 3)
    return [(largest, of_largest), *((side, STEP_SHARES[side]) for side in others)]


def chosen_exits(shape: Shape, options: ExitOptions) -> Chosen:
    """The blocks that exits precede, where they were left open."""
    return {} if options.exits is not None else {"exits": list(exit_blocks(shape.depth, None))}


def chosen_of_step(shape: Shape, options: STEPOptions) -> Chosen:
    """The exits and the levels, where they were left open."""
    levels = {} if options.levels is not None else {"levels": [list(level) for level in step_levels(shape.grid)]}
    return chosen_exits(shape, options) | levels


def chosen_of_combined(shape: Shape, options: CombinedOptions) -> Chosen:
    """All settings of the exits, where their blocks were left open."""
    if options.exits is None or options.exits.exits is not None:
        return {}
    return {"exits": options.exits.model_dump(mode="json") | chosen_exits(shape, options.exits)}


def step_parts(grid: Grid, options: STEPOptions) -> Parts:
    """Superpatches and exits."""
    return Parts(step_levels(grid) if options.levels is None else options.levels, exits=options)


@dataclass(frozen=True)
class Preset:
    """A combination under a name of its own.

    Attributes:
        options: its settings.
        parts: the combination that settings stand for on a grid.
        chosen: what it chooses for a model of the settings that were left open.
    """

    options: type[Strict]
    parts: Callable[[Grid, Any], Parts]
    chosen: Callable[[Shape, Any], Chosen] = lambda shape, options: {}


PRESETS = {
    "cts": Preset(CTSOptions, lambda grid, options: Parts(level_of_cells(options.keep))),
    "dtop": Preset(DToPOptions, lambda grid, options: Parts(exits=options), chosen_exits),
    "step": Preset(STEPOptions, step_parts, chosen_of_step),
    "cts-svit": Preset(CTSSViTOptions, lambda grid, options: Parts(level_of_cells(options.merged), gates=options)),
    "combined": Preset(
        CombinedOptions,
        lambda grid, options: Parts(options.levels, options.gates, options.exits),
        chosen_of_combined,
    ),
}
