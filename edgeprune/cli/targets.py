"""`targets`: what a bundle can be built for."""

from dataclasses import dataclass
from importlib.util import find_spec

import click

from edgeprune.base.reading import shipped
from edgeprune.bundle.target import load_target
from edgeprune.cli.options import json_option
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.runtime.engines import ENGINES


@dataclass(frozen=True, kw_only=True)
class TargetsOptions:
    json: bool = json_option()


@verb("targets", TargetsOptions, ["edgeprune targets", "edgeprune targets --json"])
def targets(options: TargetsOptions) -> None:
    """List the targets, and which of them run here.

    And for each whether it can be built for and compiled here."""
    builds = find_spec("torch") is not None
    rows = []
    for path in sorted(shipped("targets").glob("*.yaml")):
        target = load_target(path.stem)
        missing = ENGINES[target.engine].missing()
        runs = "no" if missing else "yes"
        here = {"build": "yes" if builds else "no", "compile": runs if target.compiled_on_device else "-", "run": runs}
        rows.append(target.model_dump() | here | {"missing": missing})
    if options.json:
        show_json({"targets": rows})
        return
    columns = ("name", "engine", "build", "compile", "run", "summary")
    show_table(rows, {name: ("target" if name == "name" else name, "") for name in columns})
    for requires in dict.fromkeys(row["requires"] for row in rows if row["requires"]):
        click.echo(f"{', '.join(row['name'] for row in rows if row['requires'] == requires)}: {requires}")
    if not builds:
        click.echo("to build: pip install 'edgeprune[train]'")
    for missing in dict.fromkeys(row["missing"] for row in rows if row["missing"]):
        click.echo(f"not run here: {missing}")
