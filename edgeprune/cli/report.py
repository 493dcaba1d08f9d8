"""`report`: runs of training side by side, or records of runs on a camera."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from edgeprune.base.errors import InputError
from edgeprune.base.owning import own
from edgeprune.cli.options import argument, json_option, option
from edgeprune.cli.show import Columns, show_json, show_table, show_wide_table
from edgeprune.cli.verb import verb
from edgeprune.evaluate.record_figures import RecordFigures, figures_of, ratios
from edgeprune.evaluate.record_plot import plot_records
from edgeprune.evaluate.record_rows import is_record, read_record, records_in
from edgeprune.evaluate.tasks import Metric

PHASE_COLUMNS = {"run": ("run", ""), "phase": ("phase", ""), "steps": ("steps", ",d"), "loss": ("loss", ".3f")}
COST_COLUMNS = {"keep": ("keep", ".2f"), "minutes": ("minutes", ".1f")}  # after the scores
RECORD = {"record": ("record", "")}
RECORD_COLUMNS = {
    "frames": ("frames", ",d"),
    "dropped": ("dropped", ",d"),
    "runs": ("runs", ",d"),
    "seconds": ("seconds", ",.1f"),
    "fps": ("fps", ".2f"),
    "latency_ms.p50": ("p50, ms", ".2f"),
    "latency_ms.p95": ("p95", ".2f"),
    "latency_ms.p99": ("p99", ".2f"),
    "age_ms.p50": ("age p50, ms", ".1f"),
    "age_ms.p95": ("age p95", ".1f"),
    "longest_gap_s": ("longest gap, s", ".2f"),
    "silences": ("silences", ",d"),
    "watts": ("W", ".2f"),
    "mj_per_frame": ("mJ a frame", ".1f"),
    "hottest_c": ("hottest, C", ".0f"),
    "capped": ("capped", ".1%"),
}
BUCKET_COLUMNS = {
    "bucket": ("bucket", ""),
    "frames": ("frames", ",d"),
    "share": ("share", ".1%"),
    "tokens": ("tokens", ",.0f"),
    "latency_ms.p50": ("p50, ms", ".2f"),
    "latency_ms.p95": ("p95", ".2f"),
    "latency_ms.p99": ("p99", ".2f"),
    "watts": ("W", ".2f"),
}
MEMORY_COLUMNS = {
    "memory.frames": ("frames that remember", ",d"),
    "memory.computed": ("tokens computed", ",.1f"),
    "memory.refreshed": ("of them in their turn", ",.1f"),
    "memory.carried": ("carried", ",.1f"),
}
THING_COLUMNS = {
    "class": ("class", ""),
    "mean": ("a frame", ".2f"),
    "most": ("at most", "d"),
    "frames": ("frames with one", ",d"),
}
RATIO_COLUMNS = {
    "fps": ("x fps", ".3f"),
    "p50_ms": ("x p50", ".3f"),
    "p95_ms": ("x p95", ".3f"),
    "p99_ms": ("x p99", ".3f"),
    "watts": ("x W", ".3f"),
    "mj_per_frame": ("x mJ a frame", ".3f"),
}


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    runs: tuple[Path, ...] = argument()
    out: Path | None = option("--out", help="A plot of what they say (.png, .svg, .pdf).")
    json: bool = json_option()


@verb(
    "report",
    ReportOptions,
    [
        "edgeprune report out/train/seed0 out/train/seed1 --out out/seeds.png",
        "edgeprune report out/rows/ out/before.csv --out out/rows.png",
    ],
)
def report(options: ReportOptions) -> None:
    """Compare RUNS: of training, or of a camera by their records.

    A run is the folder that `train` wrote, or what `run --record` did: a file of rows, or a folder of such files.
    """
    for path in options.runs:
        if not path.exists():
            raise InputError(
                f"{path} is not there; name a folder that `train` wrote, or a record that `run --record` did"
            )
        if inside := records_in(path):
            raise InputError(
                f"{path} has a folder for each camera; name these: edgeprune report {' '.join(map(str, inside[:16]))}"
            )
    records = [is_record(path) for path in options.runs]
    if any(records) and not all(records):
        record, other = options.runs[records.index(True)], options.runs[records.index(False)]
        raise InputError(f"{record} is a record of rows, and {other} is none; report them one by one")
    if options.out is not None:
        own([options.out], options.runs)
    if any(records):
        report_records(options)
    else:
        report_training(options)
    if options.out is not None and not options.json:
        click.echo(f"wrote {options.out}")


def report_records(options: ReportOptions) -> None:
    """Figures of each record, of its buckets, and ratios against the first."""
    records = [read_record(path) for path in options.runs]
    if options.out is not None:
        plot_records(records, options.out)
    figures = [figures_of(record) for record in records]
    if options.json:
        show_json({"records": figures, "ratios": ratios(figures)})
        return
    show_records(figures)


def show_records(figures: Sequence[RecordFigures]) -> None:
    """The tables that a person reads."""
    show_wide_table(figures, RECORD, RECORD_COLUMNS)
    click.echo()
    show_table([bucket for each in figures for bucket in each.buckets], {**RECORD, **BUCKET_COLUMNS})
    things = [
        {"record": each.record, "class": name, **vars(found)}
        for each in figures
        for name, found in (each.things or {}).items()
    ]
    if things:
        click.echo()
        show_table(things, {**RECORD, **THING_COLUMNS})
    if remembered := [each for each in figures if each.memory]:
        click.echo()
        show_table(remembered, {**RECORD, **MEMORY_COLUMNS})
    if len(figures) > 1:
        click.echo(f"\nagainst {figures[0].record}:")
        show_table(ratios(figures), {**RECORD, **RATIO_COLUMNS})
    for note in (note for each in figures for note in each.notes):
        click.echo(f"note: {note}")


def report_training(options: ReportOptions) -> None:
    """What phases came to, and where the recipes differ."""
    from edgeprune.lab.report import differing_keys, read_run
    from edgeprune.train.run_folder import plot_histories

    runs = [read_run(folder) for folder in options.runs]
    if options.out is not None:
        plot_histories({str(run.folder): run.histories for run in runs}, options.out)
    outcomes = [outcome for run in runs for outcome in run.outcomes()]
    differing = differing_keys(runs)
    if options.json:
        show_json({"phases": outcomes, "differing": differing})
        return
    show_table(outcomes, {**PHASE_COLUMNS, **score_columns(run.metric for run in runs), **COST_COLUMNS})
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


def score_columns(metrics: Iterable[type[Metric]]) -> Columns:
    """The figure of each metric, of the last validation and of the best."""
    columns: dict[str, tuple[str, str]] = {}
    for metric in metrics:
        header, form = metric.columns[metric.figure]
        columns |= {f"scores.{metric.figure}": (header, form), f"scores.best_{metric.figure}": ("best", form)}
    return columns
