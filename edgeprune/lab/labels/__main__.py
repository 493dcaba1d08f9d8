"""What a pretrained ViT and a convolutional peer score by how many labelled images they are trained on.

    python -m edgeprune.lab.labels --weights dinov2-vits14.safetensors

Each number of images is spread evenly over the split, and is the same for both networks and for all seeds. Both take equally
many steps of equal batches and windows, at every number: the ViT by the first phase of RECIPE, the peer by what recipe
`camvid-peer` says of rates, losses and augmentation. Their PyTorch models are scored on what is left out, else on RECIPE's
validation frames. What is done is not done again: typed a second time, it prints.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edgeprune.base.device import check_environment
from edgeprune.base.ending import end_on_signals
from edgeprune.base.exit_code import run_click
from edgeprune.base.outputs import locked
from edgeprune.base.table import render_table
from edgeprune.lab.labels.results import tabulate, write_results
from edgeprune.lab.labels.study import ALL, contestants, count_images, run, with_budget
from edgeprune.lab.peers.__main__ import find_recipe
from edgeprune.train.leave_out import leave_out, reported
from edgeprune.train.recipe_file import load_recipe

TYPED = "python -m edgeprune.lab.labels"
PEER_RECIPE = "camvid-peer"
COLUMNS = {
    "images": ("images", ",d"),
    "network": ("network", ""),
    "seeds": ("seeds", ""),
    "miou": ("mIoU", ".4f"),
    "spread.least": ("least", ".4f"),
    "spread.most": ("most", ".4f"),
    "boundary_f": ("boundary F", ".4f"),
    "small_things_miou": ("small things", ".4f"),
    "points_over_peer": ("points over peer", "+.2f"),
    "points_spread.least": ("least", "+.2f"),
    "points_spread.most": ("most", "+.2f"),
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was typed; see `main`."""

    recipe: str
    weights: str
    peer: str
    images: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    batch: int
    overrides: tuple[str, ...]
    group: str | None
    out: Path


@click.command(help=__doc__)
@click.argument("recipe", default="camvid")
@click.option("--weights", required=True, help="The ViT begins with these: a file, a folder or hub:OWNER/NAME.")
@click.option("--peer", default="efficientnet-lite0", show_default=True, help="A row of PEERS.")
@click.option("--images", multiple=True, default=("25", "50", "100", ALL), show_default=True, help="Repeatable.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2), show_default=True, help="Repeatable.")
@click.option("--steps", type=click.IntRange(1, 10**6), default=1000, show_default=True, help="Of each run.")
@click.option("--batch", type=click.IntRange(1, 4096), default=8, show_default=True, help="Of each step.")
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a key of RECIPE.")
@click.option("--leave-out", "group", metavar="DATA:GLOB", help="Train without these files, score on them.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/labels"), show_default=True)
def main(**typed: Any) -> None:
    asked = Asked(**typed)
    check_environment()
    vit = load_recipe(asked.recipe, list(asked.overrides))
    if asked.group is not None:
        vit = leave_out(vit, asked.group)
    scored = reported(vit, asked.group)
    vit = with_budget(vit, asked.weights, asked.steps, asked.batch)
    two = contestants(vit, asked.peer, find_recipe(PEER_RECIPE, []))
    counts = count_images(vit, asked.images)
    with locked(asked.out, "results"):
        for found, seeds in run(two, counts, list(dict.fromkeys(asked.seeds)), scored, asked.out):
            rows = tabulate(found, two, counts, seeds)
            write_results(rows, two, asked.out)  # a study that is stopped has something to show
    click.echo(render_table(rows, COLUMNS))


if __name__ == "__main__":
    end_on_signals()
    sys.exit(run_click(main, "labels", TYPED))
