"""Writes the things of the synthetic street as a data set: pictures, COCO's JSON of instances, and the YAML that names them.

    python -m edgeprune.lab.street_instances out/street-instances
    edgeprune train RECIPE --data out/street-instances

Scenes are each another street; with --frames-per-drive frames follow each other, 15 a second, and a thing keeps its `track_id`.
With --speed 0 the camera stands and traffic passes.
Masks are exact, as run lengths, of what can be seen; `occlusion` is the share of a silhouette that is hidden. The same command
writes the same files.
"""

import sys
from pathlib import Path

import click

from edgeprune.base.ending import end_on_signals
from edgeprune.base.exit_code import run_click
from edgeprune.base.files import write_folder_atomic
from edgeprune.base.outputs import locked, refuse_full_folder
from edgeprune.data.datasets import load_data_set
from edgeprune.data.street_instances import labels_of, plan_splits, write_data_set

TYPED = "python -m edgeprune.lab.street_instances"
FRAMES = click.IntRange(1, 10**6)
DRIVE, SPEED = click.IntRange(1, 10**4), click.IntRange(0, 1000)


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--data", default="street", show_default=True, help="Whose seeds, size and population: a rendered data set."
)
@click.option("--train", type=FRAMES, default=4000, show_default=True, help="Frames to train on.")
@click.option("--val", type=FRAMES, default=400, show_default=True, help="Frames of every other split that DATA has.")
@click.option("--frames-per-drive", type=DRIVE, default=1, show_default=True, help="1: scenes.")
@click.option(
    "--speed",
    type=SPEED,
    default=100,
    show_default=True,
    help="Of the camera, in hundredths of the street's own.",
)
@click.option(
    "--least",
    type=click.IntRange(1, 10**6),
    default=1,
    show_default=True,
    help="Pixels of a thing: one of fewer is a crowd, which nobody learns and no score counts.",
)
def main(out: Path, data: str, train: int, val: int, frames_per_drive: int, speed: int, least: int) -> None:
    data_set = load_data_set(data)
    plans = plan_splits(data_set, {"train": train, "val": val, "test": val}, frames_per_drive, speed)
    labels_of(data_set)
    refuse_full_folder(out)
    with locked(out, "a data set"), write_folder_atomic(out, "a data set") as partial:
        things = write_data_set(partial, data_set, plans, least)
    written = (f"{plan.name} {plan.frames:,} frames, {things[plan.name]:,} things" for plan in plans)
    click.echo(f"wrote {out}: {'; '.join(written)}")
    click.echo(f"next: edgeprune data show {out}")


if __name__ == "__main__":
    end_on_signals()
    sys.exit(run_click(main, "street_instances", TYPED))
