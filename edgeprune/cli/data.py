"""`data`: what a data set holds. `data lint`: what is wrong with its labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import click

from edgeprune.base.errors import InputError
from edgeprune.cli.options import argument, json_option, option
from edgeprune.cli.ranges import FRAMES
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import Verbs, verb
from edgeprune.data.datasets import load_data_set
from edgeprune.data.lint import LabelReport, lint_split
from edgeprune.data.split import spec_of, splits_of

LABEL_COLUMNS = {
    "id": ("id", ""),
    "name": ("class", ""),
    "share": ("share", ".2%"),
    "pixels": ("pixels", ",d"),
    "frames": ("frames", ""),
}


@dataclass(frozen=True, kw_only=True)
class LintOptions:
    data: str = argument()
    split: str | None = option("--split", help="Default: every split that it has.")
    frames: int | None = option("--frames", FRAMES, help="Read so many of each split, evenly spread; default: all.")
    json: bool = json_option()


@verb("lint", LintOptions, ["edgeprune data lint street --frames 16", "edgeprune data lint my-set.yaml --split val"])
def lint(options: LintOptions) -> None:
    """Check the labels of DATA (a name or a YAML file).

    A histogram of ids, ids outside the classes, sizes, unreadable files, in every split.
    """
    data_set = load_data_set(options.data)
    if options.split is not None:
        spec_of(data_set, options.split)
    splits = [options.split] if options.split else splits_of(data_set)
    reports = {name: lint_split(data_set, name, options.frames) for name in splits}
    problems: dict[str, str] = {}  # and the split that each was found in first
    for name, report in reports.items():
        for line in report.problems():
            problems.setdefault(line, name)
    if options.json:
        show_json({"data": options.data, "splits": [_as_json(name, report) for name, report in reports.items()]})
    else:
        show_reports(options.data, reports, problems)
    if problems:
        first, name = next(iter(problems.items()))
        more = f" (1 of {len(problems)} problems; all stand on standard output)" if len(problems) > 1 else ""
        raise InputError(f"data set {options.data}, {name}: {first}{more}")


def _as_json(name: str, report: LabelReport) -> dict[str, object]:
    return {
        "split": name,
        "frames": report.frames,
        "of": report.total,
        "classes": report.rows(),
        "problems": report.problems(),
        "warnings": report.warnings,
    }


def show_reports(data: str, reports: Mapping[str, LabelReport], problems: Mapping[str, str]) -> None:
    """The histogram of each split, and every problem where there are several; `problems`: and the split of each."""
    for name, report in reports.items():
        click.echo(f"{name}: {report.frames} of {report.total} labels read")
        if report.frames:
            show_table(report.rows(), LABEL_COLUMNS)
        for line in report.warnings:
            click.echo(line)
    for line, name in problems.items() if len(problems) > 1 else ():
        click.echo(f"{name}: {line}")
    if not problems:
        click.echo(f"{data}: nothing wrong found in {', '.join(reports)}")


data = Verbs("data", {"Verbs": {"lint": lint}}, help="Look at a data set: what is wrong with its labels.")
