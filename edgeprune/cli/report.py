"""`report`: runs of training side by side."""

from dataclasses import dataclass
from pathlib import Path

import click

from edgeprune.cli.options import argument, json_option, option
from edgeprune.cli.owning import own
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb

REPORT_COLUMNS = {
    "run": ("run", ""),
    "phase": ("phase", ""),
    "steps": ("steps", ",d"),
    "loss": ("loss", ".3f"),
    "miou": ("mIoU", ".4f"),
    "best_miou": ("best", ".4f"),
    "keep": ("keep", ".2f"),
    "minutes": ("minutes", ".1f"),
}


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    runs: tuple[Path, ...] = argument()
    out: Path | None = option("--out", help="A plot of their losses and scores (.png, .svg, .pdf).")
    json: bool = json_option()


@verb(
    "report",
    ReportOptions,
    [
        "edgeprune report out/train/street-short",
        "edgeprune report out/train/seed0 out/train/seed1 --out out/seeds.png",
    ],
)
def report(options: ReportOptions) -> None:
    """Compare RUNS: what phases came to, where recipes differ.

    A run is the folder that `train` wrote.
    """
    from edgeprune.lab.report import differing_keys, read_run
    from edgeprune.train.run_folder import plot_histories

    runs = [read_run(folder) for folder in options.runs]
    if options.out is not None:
        own([options.out], options.runs)
        plot_histories({str(run.folder): run.histories for run in runs}, options.out)
    outcomes = [outcome for run in runs for outcome in run.outcomes()]
    differing = differing_keys(runs)
    if options.json:
        show_json({"phases": outcomes, "differing": differing})
        return
    show_table(outcomes, REPORT_COLUMNS)
    if len(runs) > 1:
        click.echo()
        rows = [
            {"key": key, **{str(i): str(value) for i, value in enumerate(found)}} for key, found in differing.items()
        ]
        if rows:
            columns = {str(index): (str(run.folder), "") for index, run in enumerate(runs)}
            show_table(rows, {"key": ("differs in", ""), **columns})
        else:
            click.echo("their recipes are equal")
    if options.out is not None:
        click.echo(f"wrote {options.out}")
