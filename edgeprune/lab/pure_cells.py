"""How few tokens a data set's labels need: cells of one class share a token, the largest first, as if a policy knew them.

    python -m edgeprune.lab.pure_cells street-hd camvid:384x512

Superpatches of 16x16, 8x8, 4x4 and 2x2 patches of 16 pixels, on labels resized by nearest where a size stands behind the name.
What is left is a bound for superpatches, and the shares of the image that merge are where `levels` of a policy begin.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np
import torch

from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.table import render_table
from edgeprune.data import open_split, spread
from edgeprune.data.datasets import load_data_set
from edgeprune.data.nearest import LabelMap, resize_nearest
from edgeprune.pruning.methods.decisions import fitting
from edgeprune.pruning.superpatches import purity_targets, tokens_left

TYPED = "python -m edgeprune.lab.pure_cells"
PATCH = 16
SIDES = (16, 8, 4, 2)
COLUMNS = {
    "data": ("data", ""),
    "tokens": ("tokens", ",d"),
    "left": ("% left", ".1f"),
    "tenth": ("10% of frames", ".1f"),
    "ninetieth": ("90%", ".1f"),
} | {f"merged.{side}": (f"% in {side}x{side}", ".1f") for side in SIDES}


@dataclass(frozen=True)
class PureCells:
    """Of one data set, in hundredths of the tokens or of the image.

    Attributes:
        left: the median frame's tokens; `tenth` and `ninetieth`: what one frame in ten is under or over.
        merged: the share of the image that merges into superpatches of each side, the mean over the frames.
    """

    data: str
    tokens: int
    left: float
    tenth: float
    ninetieth: float
    merged: dict[str, float]


def left_by_side(label_HW: LabelMap, sides: Sequence[int]) -> list[int]:
    """The tokens that remain when the cells of the first side merge that hold one class, those of the first two, and so on."""
    labels_1HW = torch.from_numpy(label_HW.astype(np.int64))[None]
    grid = (label_HW.shape[0] // PATCH, label_HW.shape[1] // PATCH)
    mixed = [1 - purity_targets(labels_1HW, side * PATCH)[0] for side in sides]
    levels = range(1, len(sides) + 1)
    return [int(tokens_left(mixed[:count], sides[:count], grid, [0.5] * count)) for count in levels]


def count_pure(name: str, split: str, frames: int) -> PureCells:
    """Over so many frames of a split.

    Args:
        name: a data set, with `:HEIGHTxWIDTH` behind it where its labels are to have another size.

    Raises:
        InputError: its frames have several sizes, and there is none behind it.
    """
    data, size = _with_size(name)
    samples = open_split(load_data_set(data), split)
    picked = spread(len(samples), frames)
    counted, first = [], size
    for index in picked:
        label_HW: LabelMap = samples[index].label_HW
        first = first or label_HW.shape
        if size is None and label_HW.shape != first:
            shapes = " and ".join(f"{height}x{width}" for height, width in (first, label_HW.shape))
            raise InputError(f"{name}: its frames are {shapes}; give one size for all, such as {name}:384x512")
        label_HW = resize_nearest(label_HW, *(size or label_HW.shape))
        grid = (label_HW.shape[0] // PATCH, label_HW.shape[1] // PATCH)
        sides = fitting(grid)
        counted.append([grid[0] * grid[1], *left_by_side(label_HW, sides)])
    left_FC = np.array(counted, float)
    shares_FC = 100 * left_FC / left_FC[:, :1]
    merged = {str(side): float(gone) for side, gone in zip(sides, -np.diff(shares_FC.mean(0)), strict=True)}
    tenth, half, ninetieth = (float(each) for each in np.quantile(shares_FC[:, -1], (0.1, 0.5, 0.9)))
    areas = {side: abs(gone) / (1 - int(side) ** -2) for side, gone in merged.items()}  # none is 0, not -0
    return PureCells(name, counted[0][0], half, tenth, ninetieth, areas)


def _with_size(name: str) -> tuple[str, tuple[int, int] | None]:
    data, _, size = name.rpartition(":")
    if not data:
        return name, None
    found = re.fullmatch(r"(\d+)x(\d+)", size)
    if found is None:
        raise InputError(f"{name}: expected a data set, or one with its labels' size, such as camvid:384x512")
    return data, (int(found[1]), int(found[2]))


@click.command(help=__doc__)
@click.argument("data", nargs=-1, required=True)
@click.option("--split", default="train", show_default=True)
@click.option("--frames", default=60, show_default=True, help="Of each set, spread over its split.")
def main(data: tuple[str, ...], split: str, frames: int) -> None:
    click.echo(render_table([count_pure(name, split, frames) for name in data], COLUMNS))


if __name__ == "__main__":
    sys.exit(run_click(main, "pure_cells", TYPED))
