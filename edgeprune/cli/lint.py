"""`lint`: an ONNX graph by the rules of a target, or a data set's labels."""

from pathlib import Path
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import load_target
from edgeprune.cli.ranges import FRAMES
from edgeprune.cli.show import as_json, show_json, show_table
from edgeprune.data.datasets import load_data_set
from edgeprune.data.lint import lint_split
from edgeprune.data.split import spec_of, splits_of

LABEL_COLUMNS = {
    "id": ("id", ""),
    "name": ("class", ""),
    "share": ("share", ".2%"),
    "pixels": ("pixels", ",d"),
    "frames": ("frames", ""),
}


@click.command()
@click.argument("graph", type=click.Path(path_type=Path), required=False)
@click.option("--target", default="jetson-orin", show_default=True, help="Whose rules a GRAPH is held to.")
@click.option("--data", help="Instead of a graph: a data set, by name or YAML file.")
@click.option("--split", help="Of the data set; default: every split that it has.")
@click.option("--frames", type=FRAMES, help="Read so many of each split, evenly spread; default: all.")
@as_json
def lint(graph: Path | None, target: str, data: str | None, split: str | None, frames: int | None, json_: bool) -> None:
    """Check a GRAPH (.onnx, of any making) by a target's rules, or a data set's labels (--data).

    Of a graph: what the target refuses, ignores or runs slowly, why, and what to do. Of labels: a histogram of ids, ids
    outside the classes, sizes, unreadable files, in every split.
    """
    if (graph is None) == (data is None):
        raise InputError("lint takes a graph or --data, one of the two: edgeprune lint model.onnx")
    if data is not None:
        lint_data(data, split, frames, json_)
    elif graph is not None:
        lint_file(graph, target, json_)


def lint_file(graph: Path, target: str, json_: bool) -> None:
    """Every finding with its reason; refuses a graph that has any."""
    from edgeprune.export.lint import RULES, lint_graph, load_graph

    rules = load_target(target).lint
    model = load_graph(graph)
    rows: list[dict[str, Any]] = []
    for name in rules:
        rule = RULES[name]
        try:
            lines = lint_graph(graph.name, model, [name])
        except Exception as error:  # the graph is anybody's: what a rule stumbles over, it can't judge
            raise InputError(
                f"{graph}: rule {name} can't judge it ({type(error).__name__}: {str(error)[:200]}); the graph is damaged, or "
                "the rule is: report it with the graph"
            ) from error
        for line in lines:
            about = {"concerns": rule.concerns, "reason": rule.reason, "remedy": rule.remedy}
            rows.append({"rule": name, "finding": line.split(": ", 2)[2]} | about)
    if json_:
        show_json({"graph": str(graph), "target": target, "rules": rules, "findings": rows})
    else:
        for name in dict.fromkeys(row["rule"] for row in rows):
            found = [row for row in rows if row["rule"] == name]
            click.echo(f"{name} ({found[0]['concerns']}): {found[0]['reason']}")
            for row in found:
                click.echo(f"    {row['finding']}")
            click.echo(f"    do: {found[0]['remedy']}")
        if not rows:
            click.echo(f"{graph}: {len(rules)} rules of {target}, nothing found")
    if rows:
        findings = f"{len(rows)} finding{'s' if len(rows) > 1 else ''}"
        raise InputError(f"{graph}: {findings} by the rules of {target}; what to do stands beside each")


def lint_data(data: str, split: str | None, frames: int | None, json_: bool) -> None:
    """The histogram of ids, and every kind of problem, of each split; refuses labels that can't be trained on."""
    data_set = load_data_set(data)
    if split is not None:
        spec_of(data_set, split)
    reports = {name: lint_split(data_set, name, frames) for name in ([split] if split else splits_of(data_set))}
    problems: dict[str, str] = {}  # and the split that each was found in first
    for name, report in reports.items():
        for line in report.problems():
            problems.setdefault(line, name)
    if json_:
        rows = [
            {"split": name, "frames": report.frames, "of": report.total, "classes": report.rows()}
            | {"problems": report.problems(), "warnings": report.warnings}
            for name, report in reports.items()
        ]
        show_json({"data": data, "splits": rows})
    else:
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
    if problems:
        first, name = next(iter(problems.items()))
        more = f" (1 of {len(problems)} problems; all stand on standard output)" if len(problems) > 1 else ""
        raise InputError(f"data set {data}, {name}: {first}{more}")
