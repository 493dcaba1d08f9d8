"""How many things a data set's labels hold, how large they are and where they stand: what a synthetic set is held against.

    python -m edgeprune.lab.things camvid street street-hd

Where labels tell things apart (COCO, YOLO) they are counted one by one, of other labels and classes the connected components (8
neighbours) of a class's pixels; resized to 360x480 by nearest, of 12 pixels or more. Heights and feet (the lowest pixel) are in
hundredths of the frame's height: quartiles, and what one thing in ten is under or over.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click
import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError, nearest
from edgeprune.base.exit_code import run_click
from edgeprune.base.table import render_table
from edgeprune.data import open_split, spread
from edgeprune.data.classes import thing_classes
from edgeprune.data.datasets import load_data_set
from edgeprune.data.instances import Instances, box_of
from edgeprune.data.nearest import LabelMap, resize_nearest
from edgeprune.data.split import tells_things_apart
from edgeprune.evaluate.components import connected_components
from edgeprune.evaluate.small_things import SMALL_PX

TYPED = "python -m edgeprune.lab.things"
HEIGHT, WIDTH = 360, 480  # CamVid's frames
LEAST_PIXELS = 12
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
COLUMNS = {
    "data": ("data", ""),
    "thing": ("class", ""),
    "of_pixels": ("% of pixels", ".2f"),
    "in_a_frame": ("in a frame", ".2f"),
    "small_in_a_frame": ("under 32x32", ".2f"),
    "heights": ("height 10, 25, 50, 75, 90%", ""),
    "feet": ("foot 10, 25, 50, 75, 90%", ""),
}


@dataclass(frozen=True)
class Things:
    """Of one class in one data set; quantiles in hundredths of the frame's height."""

    data: str
    thing: str
    of_pixels: float
    in_a_frame: float
    small_in_a_frame: float
    heights: str
    feet: str


def boxes(mask_HW: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Height, lowest row + 1, and pixels (T, 3) of each connected component of LEAST_PIXELS or more."""
    components = connected_components(mask_HW.astype(np.uint8))
    row_P, _ = np.nonzero(mask_HW)
    component_P = components.of_HW[mask_HW]
    top_K = np.full(len(components.area_K), len(mask_HW))
    foot_K = np.zeros_like(top_K)
    np.minimum.at(top_K, component_P, row_P)
    np.maximum.at(foot_K, component_P, row_P + 1)
    kept_K = (components.id_K == 1) & (components.area_K >= LEAST_PIXELS)
    return np.stack((foot_K - top_K, foot_K, components.area_K), axis=1)[kept_K]


def outlined_boxes(things: Instances, class_id: int) -> npt.NDArray[np.int64]:
    """As `boxes`, (T, 3), of each thing of a class that the labels tell apart, crowds left out."""
    found = []
    for index in np.flatnonzero((things.classes_I == class_id) & ~things.crowd_I).tolist():
        mask_HW = things.mask(index)
        box, pixels = box_of(mask_HW), int(np.count_nonzero(mask_HW))
        if box is not None and pixels >= LEAST_PIXELS:
            _, top, _, bottom = box
            found.append((bottom - top, bottom, pixels))
    return np.array(found, np.int64).reshape(-1, 3)


def count_things(name: str, split: str, frames: int, classes: list[str]) -> Iterator[Things]:
    """A row of each class, over so many frames of a split.

    Raises:
        InputError: the data set has no such class.
    """
    data_set = load_data_set(name)
    if unknown := [thing for thing in classes if thing not in data_set.names]:
        raise InputError(
            f"data set {data_set.name!r} has no class {unknown[0]!r}, it has {', '.join(data_set.names)}; name those to count "
            f"with --class{nearest(unknown[0], data_set.names)}"
        )
    samples = open_split(data_set, split, things=tells_things_apart(data_set, split))
    picked, told_apart = spread(len(samples), frames), thing_classes(data_set)
    shares = np.zeros(len(classes))
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in classes]
    for index in picked:
        sample = samples[index]
        label_HW: LabelMap = resize_nearest(sample.label_HW, HEIGHT, WIDTH)
        things = None if sample.things is None else sample.things.resized(HEIGHT, WIDTH)
        for place, thing in enumerate(classes):
            class_id = data_set.names.index(thing)
            mask_HW = label_HW == class_id
            shares[place] += mask_HW.mean()
            if things is not None and class_id in told_apart:
                found[place].append(outlined_boxes(things, class_id))
            else:
                found[place].append(boxes(mask_HW))
    for thing, share, each in zip(classes, shares, found, strict=True):
        height_T, foot_T, pixels_T = np.concatenate(each).T
        yield Things(
            data=data_set.name,
            thing=thing,
            of_pixels=100 * share / len(picked),
            in_a_frame=len(height_T) / len(picked),
            small_in_a_frame=np.count_nonzero(pixels_T < SMALL_PX) / len(picked),
            heights=_quantiles(height_T),
            feet=_quantiles(foot_T),
        )


def _quantiles(rows_T: npt.NDArray[np.int64]) -> str:
    if not len(rows_T):
        return "-"
    return " ".join(f"{100 * value / HEIGHT:4.1f}" for value in np.quantile(rows_T, QUANTILES))


@click.command(help=__doc__)
@click.argument("data", nargs=-1, required=True)
@click.option("--split", default="train", show_default=True)
@click.option("--frames", default=400, show_default=True, help="Of each set, spread over its split.")
@click.option(
    "--class",
    "classes",
    multiple=True,
    default=("pole", "sign", "car", "pedestrian", "bicyclist"),
    show_default=True,
    help="Repeatable.",
)
def main(data: tuple[str, ...], split: str, frames: int, classes: tuple[str, ...]) -> None:
    rows = [row for name in data for row in count_things(name, split, frames, list(classes))]
    click.echo(render_table(sorted(rows, key=lambda row: classes.index(row.thing)), COLUMNS))


if __name__ == "__main__":
    sys.exit(run_click(main, "things", TYPED))
