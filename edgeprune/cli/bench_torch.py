"""`bench-torch`: what buckets are worth in PyTorch on a GPU."""

from pathlib import Path

import click

from edgeprune.base.machine import describe_machine
from edgeprune.base.table import write_csv, write_json
from edgeprune.bundle.target import BucketFamily
from edgeprune.cli.defaults import default_checkpoint
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import A_WHILE, FRAMES, ROUNDS, parse_size
from edgeprune.cli.show import as_json, show_json, show_table
from edgeprune.model.spec import ModelSpec
from edgeprune.runtime.meters import open_meter

COLUMNS = {
    "size": ("ViT", ""),
    "height": ("height", "d"),
    "width": ("width", "d"),
    "dtype": ("dtype", ""),
    "graph": ("graph", ""),
    "mode": ("mode", ""),
    "token_share": ("of dense", ".0%"),
    "latency_ms.p50": ("p50 ms", ".2f"),
    "latency_ms.p95": ("p95 ms", ".2f"),
    "speedup_vs_dense": ("x dense", ".2f"),
    "mj_per_frame": ("mJ/frame", ".1f"),
    "mj_above_idle": ("above idle", ".1f"),
}


@click.command("bench-torch")
@click.option("--size", "sizes", multiple=True, metavar="HxW", default=("512x512", "1024x1024"), show_default=True)
@click.option(
    "--vit",
    "vits",
    multiple=True,
    type=click.Choice(["tiny", "small", "base", "large"]),
    default=("tiny", "small", "base", "large"),
    show_default=True,
    help="Repeatable, as are --size and --dtype.",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default=("fp16", "bf16"),
    show_default=True,
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Whose policy and ratios; default: the zoo's.")
@click.option("--buckets", default=5, show_default=True, type=click.IntRange(2, 64), help="With the full grid.")
@click.option("--rounds", default=5, show_default=True, type=ROUNDS)
@click.option("--frames", default=8, show_default=True, type=FRAMES, help="Different ones in a round.")
@click.option("--seconds", default=1.0, show_default=True, type=A_WHILE, help="A round lasts as long or longer.")
@click.option("--meter", default="auto", show_default=True, help="Energy meter.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for bench-torch.csv and .json.")
@as_json
def bench_torch(
    sizes: tuple[str, ...],
    vits: tuple[str, ...],
    dtypes: tuple[str, ...],
    checkpoint: Path | None,
    buckets: int,
    rounds: int,
    frames: int,
    seconds: float,
    meter: str,
    out: Path | None,
    json_: bool,
) -> None:
    """Time the bucket family in PyTorch on a GPU: a CUDA graph per bucket, dense, and dynamic shapes without CUDA graphs."""
    from edgeprune.model.card import read_header

    (card, _), sensor = read_header(checkpoint or default_checkpoint()), open_meter(meter)
    shapes = [parse_size(size) for size in sizes]
    own([out], [checkpoint], folders=True)
    # torch takes seconds: what was given has been read
    from edgeprune.lab.in_torch import DEPTHS, bench_in_torch, describe_gpu, find_gpu

    gpu = find_gpu()
    specs = [
        ModelSpec(size=vit, depth=DEPTHS[vit], height=height, width=width, classes=card.model.classes)  # type: ignore[arg-type]
        for vit in vits
        for height, width in shapes
    ]
    result: dict[str, object] = {
        "policy": card.policy.model_dump(),
        "rounds": rounds,
        "gpu": describe_gpu(gpu),
        "machine": describe_machine(),
    }
    rows: list[dict[str, object]] = []
    for spec in specs:
        for dtype in dtypes:
            rows += bench_in_torch(
                spec,
                card.policy,
                dtype,
                BucketFamily(count=buckets),
                sensor,
                device=gpu,
                rounds=rounds,
                frames=frames,
                seconds=seconds,
            )
            result["rows"] = rows
            if out:  # after each model: the next may be too large for this GPU
                write_csv(out / "bench-torch.csv", rows)
                write_json(out / "bench-torch.json", result)
    if json_:
        show_json(result)
        return
    show_table(rows, COLUMNS)
    click.echo(f"energy: {rows[0]['energy_status']}")
    if out:
        click.echo(f"wrote {out / 'bench-torch.csv'}, bench-torch.json")
