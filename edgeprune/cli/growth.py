"""`growth`: what a larger input costs."""

from pathlib import Path

import click

from edgeprune.base.table import write_csv, write_json
from edgeprune.cli.defaults import open_default
from edgeprune.cli.device import prepare_run
from edgeprune.cli.measure import known_engines
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import FRAMES, ROUNDS, THREADS
from edgeprune.cli.show import as_json, show_json, show_table
from edgeprune.evaluate.plot import plot_growth
from edgeprune.lab.scaling import growth as measure_growth
from edgeprune.runtime.compiling import single_graphs
from edgeprune.runtime.meters import open_meter

GROWTH_COLUMNS = {
    "height": ("height", "d"),
    "width": ("width", "d"),
    "tokens": ("tokens", ",d"),
    "series": ("graph", ""),
    "precision": ("precision", ""),
    "engine": ("engine", ""),
    "latency_ms.p50": ("p50 ms", ".1f"),
    "speedup_vs_dense_fp32": ("x dense FP32", ".2f"),
    "peak_mb": ("peak MB", ".0f"),
}
EXPONENT_COLUMNS = {
    "series": ("graph", ""),
    "precision": ("precision", ""),
    "engine": ("engine", ""),
    "tokens": ("tokens", ""),
    "latency": ("latency ~ tokens^", ".2f"),
    "memory": ("memory ~ tokens^", ".2f"),
}


@click.command()
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="One per input size (`edgeprune build --size 512x512`); repeatable.",
)
@click.option("--rounds", default=5, show_default=True, type=ROUNDS)
@click.option("--frames", default=4, show_default=True, type=FRAMES, help="Frames of a round.")
@click.option("--engine", "engines", multiple=True, help="Default: the target's; repeatable.")
@click.option("--threads", type=THREADS, help="Default: the target's.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for growth.csv, growth.json and growth.png.")
@as_json
def growth(
    bundles: tuple[Path, ...],
    rounds: int,
    frames: int,
    engines: tuple[str, ...],
    threads: int | None,
    out: Path | None,
    json_: bool,
) -> None:
    """Time and memory of every graph against the input size, over bundles of one model at several sizes."""
    own([out], bundles, folders=True)
    opened, chosen = [open_default(bundle) for bundle in bundles], known_engines(engines)
    for index, bundle in enumerate(opened):
        for engine in chosen or [bundle.manifest.target.engine]:
            opened[index] = prepare_run(opened[index], engine, single_graphs(bundle))
    result = measure_growth(
        opened,
        rounds,
        open_meter("none"),
        engines=chosen or None,
        threads=threads,
        frames=frames,
    )
    if out:
        write_csv(out / "growth.csv", result["rows"])
        write_json(out / "growth.json", result)
        plot_growth(result["rows"], out / "growth.png")
    if json_:
        show_json(result)
        return
    show_table(result["rows"], GROWTH_COLUMNS)
    if result["exponents"]:
        show_table(result["exponents"], EXPONENT_COLUMNS)
    if out:
        click.echo(f"wrote {out / 'growth.csv'}, growth.json, growth.png")
