"""`compare`: token-reduction methods side by side."""

import logging
from pathlib import Path

import click

from edgeprune.base.table import write_csv, write_json
from edgeprune.bundle.target import load_target
from edgeprune.cli.owning import own
from edgeprune.cli.show import as_json, show_json, show_table
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.evaluate.plot import plot_miou_latency
from edgeprune.lab.compare.spec import read_plan
from edgeprune.train.recipe import load_recipe

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


@click.command()
@click.argument("plan")
@click.option("--out", type=click.Path(path_type=Path), help="Default: out/compare/<plan's name>.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where rendered street scenes are kept (1 MB each).")
@as_json
def compare(plan: str, out: Path | None, cache: Path | None, json_: bool) -> None:
    """Train, build, score and time the rows of a PLAN (a name or a YAML file). Resumes where it was stopped."""
    _, written = read_plan(plan)
    load_recipe(written.recipe)
    load_target(written.target)
    open_split(load_data_set(written.score.data), written.score.split, written.score.include, written.score.exclude)
    # torch takes seconds: what was given has been read
    from edgeprune.lab.compare.plan import load_plan
    from edgeprune.lab.compare.run import compare as run_comparison

    loaded = load_plan(plan)
    folder = out or Path("out/compare") / loaded.name
    own([folder], [plan, written.recipe, written.dense], folders=True)
    logger.info(
        f"{loaded.name}: {len(loaded.rows)} rows, seeds {', '.join(map(str, loaded.seeds))}; results in {folder}"
    )
    result = run_comparison(loaded, folder, cache)
    paths = [folder / "compare.csv", folder / "compare.json"]
    write_csv(paths[0], result["rows"])
    write_json(paths[1], result)
    timed = [row | {"bucket": row["row"]} for row in result["rows"] if row["latency_ms"] is not None]
    for engine in dict.fromkeys(row["engine"] for row in timed):
        paths.append(folder / f"compare-{engine}.png")
        plot_miou_latency([row for row in timed if row["engine"] == engine], paths[-1])
    if json_:
        show_json(result)
        return
    show_table(result["rows"], COMPARE_COLUMNS)
    about = result["timing"]
    click.echo(
        f"{about['rounds']} rounds of {about['frames']} frames, {about['threads']} threads; x dense: the dense row of the "
        f"same precision and engine; {about['energy_status']}"
    )
    click.echo("dense of its latency: between the plan's dense rows (fewer blocks, lower input), trained as long")
    for row in result["picked"]:
        under = row["points_under_dense"]
        click.echo(
            f"deploy on {row['engine']}, {row['precision']}: {row['row']}, {row['speedup_vs_dense']:.2f}x dense, "
            f"{abs(under):.2f} points {'over' if under < 0 else 'under'} it (limit {result['limit_points']:g} under): "
            f"edgeprune run --bundle {row['bundle']}"
        )
    click.echo("picked on the frames it was scored on: check it on others before you trust the figure")
    for path in paths:
        click.echo(f"wrote {path}")
