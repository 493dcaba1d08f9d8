"""`roofline`: what each group of operators costs."""

from dataclasses import dataclass
from pathlib import Path

import click

from edgeprune.base.owning import own
from edgeprune.base.table import write_csv
from edgeprune.cli.defaults import open_default
from edgeprune.cli.options import bundle_option, json_option, option, threads_option
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.evaluate.bench import bench_frames
from edgeprune.lab.roofline import Roofline
from edgeprune.lab.roofline import roofline as measure_roofline

COLUMNS = {
    "group": ("operators", ""),
    "nodes": ("nodes", "d"),
    "ms": ("ms", ".2f"),
    "gmacs": ("GMAC", ".3f"),
    "mbytes": ("MB", ".1f"),
    "floor_ms": ("floor ms", ".2f"),
    "reached": ("reached", ".0%"),
}


@dataclass(frozen=True, kw_only=True)
class RooflineOptions:
    bundle: Path | None = bundle_option()
    threads: int | None = threads_option()
    out: Path | None = option("--out", help="Folder for roofline.csv.")
    json: bool = json_option()


@verb(
    "roofline",
    RooflineOptions,
    ["edgeprune roofline", "edgeprune roofline --threads 1 --out out/roofline"],
)
def roofline(options: RooflineOptions) -> None:
    """Time groups of operators against this machine's peaks.

    In ONNX Runtime, on one frame of the synthetic street.
    """
    opened = open_default(options.bundle)
    own([options.out], [opened.folder], folders=True)
    _, frames_FHW3 = bench_frames(opened, None, 1)
    result = measure_roofline(opened, frames_FHW3[0], options.threads)
    if options.out:
        write_csv(options.out / "roofline.csv", result.rows)
    if options.json:
        show_json(result)
        return
    show_roofline(result)
    if options.out:
        click.echo(f"wrote {options.out / 'roofline.csv'}")


def show_roofline(result: Roofline) -> None:
    """A table of each graph, and the peaks that its rows are held to."""
    for graph, precision in dict.fromkeys((row.graph, row.precision) for row in result.rows):
        rows = [row for row in result.rows if (row.graph, row.precision) == (graph, precision)]
        click.echo(f"\n{graph} {precision}" + ("" if graph in ("dense", "trunk") else " (trunk and tail)"))
        show_table(rows, COLUMNS)
    peaks = result.peaks
    click.echo(
        f"\nONNX Runtime, {result.threads} threads; peaks measured just before: fp32 {peaks.fp32_gmacs:.0f}, "
        f"int8 {peaks.int8_gmacs:.0f} GMAC/s, copy {peaks.copy_gbytes:.0f} GB/s"
    )
