"""`lint`: an ONNX graph by the rules of a target."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.bundle.target import load_target
from edgeprune.cli.options import argument, json_option, option
from edgeprune.cli.show import show_json
from edgeprune.cli.verb import verb


@dataclass(frozen=True, kw_only=True)
class LintOptions:
    graph: Path = argument()
    target: str = option("--target", default="jetson-orin", help="Whose rules the graph is held to.")
    json: bool = json_option()


@verb(
    "lint",
    LintOptions,
    [
        "edgeprune lint model.onnx",
        "edgeprune lint out/bundles/street-tiny-onnx-cpu/graphs/int8-trunk.onnx --target onnx-cpu",
    ],
    moved={"--data": "edgeprune data lint DATA", "--split": "edgeprune data lint DATA --split"},
)
def lint(options: LintOptions) -> None:
    """Check a GRAPH (.onnx, of any making) by a target's rules.

    What the target refuses, ignores or runs slowly, why, and what to do.
    """
    lint_file(options.graph, options.target, options.json)


def lint_file(graph: Path, target: str, as_json: bool) -> None:
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
    if as_json:
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
