"""`compare`: token-reduction methods side by side."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeprune.base.table import write_csv, write_json
from edgeprune.bundle import DENSE
from edgeprune.bundle.target import load_target
from edgeprune.cli.options import argument, cache_option, json_option, option
from edgeprune.cli.owning import own
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.evaluate.plot import Point, plot_miou_latency
from edgeprune.lab.compare.spec import read_plan
from edgeprune.train.recipe_file import load_recipe

if TYPE_CHECKING:
    from edgeprune.lab.compare.run import Comparison

logger = logging.getLogger(__name__)

COMPARE_COLUMNS = {
    "row": ("row", ""),
    "policy": ("policy", ""),
    "precision": ("precision", ""),
    "engine": ("engine", ""),
    "seeds": ("seeds", "d"),
    "miou": ("mIoU", ".4f"),
    "points_under_dense": ("points under dense", ".2f"),
    "boundary_f": ("boundary F", ".4f"),
    "token_share": ("tokens", ".1%"),
    "gmacs": ("GMAC", ".2f"),
    "parameters": ("parameters", ",d"),
    "latency_ms.p50": ("p50 ms", ".1f"),
    "speedup_vs_dense": ("x dense", ".2f"),
    "points_over_controls": ("points over dense of its latency", "+.2f"),
    "note": ("", ""),
}


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    plan: str = argument()
    out: Path | None = option("--out", help="Default: out/compare/<plan's name>.")
    cache: Path | None = cache_option()
    json: bool = json_option()


@verb(
    "compare",
    CompareOptions,
    ["edgeprune compare camvid-brief --cache out/scenes", "edgeprune compare my-plan.yaml --out out/compare/mine"],
)
def compare(options: CompareOptions) -> None:
    """Train, build, score and time the rows of a PLAN.

    A name or a YAML file: token-reduction methods side by side. Resumes where it was stopped.
    """
    _, written = read_plan(options.plan)
    load_recipe(written.recipe)
    load_target(written.target)
    open_split(load_data_set(written.score.data), written.score.split, written.score.include, written.score.exclude)
    # torch takes seconds: what was given has been read
    from edgeprune.lab.compare.plan import load_plan
    from edgeprune.lab.compare.run import run_comparison

    loaded = load_plan(options.plan)
    folder = options.out or Path("out/compare") / loaded.name
    own([folder], [options.plan, written.recipe, written.dense], folders=True)
    seeds = ", ".join(map(str, loaded.seeds))
    logger.info(f"{loaded.name}: {len(loaded.rows)} rows, seeds {seeds}; results in {folder}")
    result = run_comparison(loaded, folder, options.cache)
    paths = write_comparison(result, folder)
    if options.json:
        show_json(result)
        return
    show_comparison(result)
    for path in paths:
        click.echo(f"wrote {path}")


def write_comparison(result: "Comparison", folder: Path) -> list[Path]:
    """The table as CSV, everything as JSON, and mIoU against latency as a plot for each engine."""
    paths = [folder / "compare.csv", folder / "compare.json"]
    write_csv(paths[0], result.rows)
    write_json(paths[1], result)
    points: dict[str | None, list[Point]] = {}
    for row in result.rows:
        if row.latency_ms is not None:
            control = row.policy == DENSE != row.row
            point = Point(row.latency_ms.p50, 100 * row.miou, row.row, row.precision, control)
            points.setdefault(row.engine, []).append(point)
    for engine, of_engine in points.items():
        paths.append(folder / f"compare-{engine}.png")
        plot_miou_latency(of_engine, paths[-1])
    return paths


def show_comparison(result: "Comparison") -> None:
    """The table, what its columns are, and the rows to deploy."""
    show_table(result.rows, COMPARE_COLUMNS)
    about = result.timing
    click.echo(
        f"{about.rounds} rounds of {about.frames} frames, {about.threads} threads; x dense: the dense row of the "
        f"same precision and engine; {about.energy_status}"
    )
    click.echo("dense of its latency: between the plan's dense rows (fewer blocks, lower input), trained as long")
    for row in result.picked:
        under = row.points_under_dense
        click.echo(
            f"deploy on {row.engine}, {row.precision}: {row.row}, {row.speedup_vs_dense:.2f}x dense, "
            f"{abs(under):.2f} points {'over' if under < 0 else 'under'} it (limit {result.limit_points:g} under): "
            f"edgeprune run --bundle {row.bundle}"
        )
    click.echo("picked on the frames it was scored on: check it on others before you trust the figure")
