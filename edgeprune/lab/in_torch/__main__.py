"""Times the bucket family in PyTorch on a GPU: a CUDA graph per bucket, dense, and dynamic shapes without CUDA graphs."""

import sys
from itertools import product
from pathlib import Path
from typing import Any

import click

from edgeprune.base.device import check_environment
from edgeprune.base.ending import end_on_signals
from edgeprune.base.exit_code import run_click
from edgeprune.base.files import make_folder
from edgeprune.base.machine import describe_machine
from edgeprune.base.reading import ROOT
from edgeprune.base.table import render_table, write_csv, write_json
from edgeprune.bundle.target import BucketFamily
from edgeprune.lab.in_torch.bench import DEPTHS, DTYPES, bench_in_torch
from edgeprune.lab.in_torch.gpu import describe_gpu, find_gpu, open_gpu_meter
from edgeprune.lab.in_torch.rounds import MEASURED, Rounds
from edgeprune.model.card import read_header
from edgeprune.model.spec import ModelSpec

TYPED = "python -m edgeprune.lab.in_torch"
CHECKPOINT = ROOT / "zoo" / "street-tiny" / "qat.safetensors"  # whose policy and ratios are timed
BUCKETS = 5  # with the full grid
SIDE_PX = click.IntRange(32, 4096)
COLUMNS = {
    "size": ("ViT", ""),
    "height": ("height", "d"),
    "width": ("width", "d"),
    "dtype": ("dtype", ""),
    **MEASURED,
}


@click.command(help=__doc__)
@click.option(
    "--side", "sides", multiple=True, type=SIDE_PX, default=(512, 1024), help="Of a square input; repeatable."
)
@click.option(
    "--vit", "vits", multiple=True, type=click.Choice(list(DEPTHS)), default=tuple(DEPTHS), help="Repeatable."
)
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(list(DTYPES)), default=("fp16", "bf16"))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 10_000))
@click.option(
    "--frames", default=8, show_default=True, type=click.IntRange(1, 1_000), help="Different ones in a round."
)
@click.option(
    "--seconds",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 3_600),
    help="A round lasts as long or longer.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out/gpu"), show_default=True, help="For the results."
)
def main(
    sides: tuple[int, ...],
    vits: tuple[str, ...],
    dtypes: tuple[str, ...],
    rounds: int,
    frames: int,
    seconds: float,
    out: Path,
) -> None:
    check_environment()
    (card, _), sensor = read_header(CHECKPOINT), open_gpu_meter()
    gpu, rows = find_gpu(), list[dict[str, Any]]()
    make_folder(out, "results")
    about = {"rounds": rounds, "gpu": describe_gpu(gpu), "machine": describe_machine()}
    result = {"policy": card.policy.model_dump(), **about, "rows": rows}
    for vit, side, dtype in product(vits, sides, dtypes):
        spec = ModelSpec(size=vit, depth=DEPTHS[vit], height=side, width=side, classes=card.model.classes)  # type: ignore[arg-type]
        rows += bench_in_torch(
            spec,
            card.policy,
            dtype,
            BucketFamily(count=BUCKETS),
            sensor,
            gpu,
            Rounds(rounds, frames, seconds),
        )
        # after each model: the next may be too large for this GPU
        write_csv(out / "in-torch.csv", rows)
        write_json(out / "in-torch.json", result)
    click.echo(render_table(rows, COLUMNS))
    click.echo(f"energy: {rows[0]['energy_status']}")
    click.echo(f"wrote {out / 'in-torch.csv'}, in-torch.json")


if __name__ == "__main__":
    end_on_signals()
    sys.exit(run_click(main, "in_torch", TYPED))
