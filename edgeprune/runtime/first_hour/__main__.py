"""The check list of the first hour on a board, with its BUNDLE; or, with --compare, two boards' results side by side."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from edgeprune.base.device import board_name, check_environment
from edgeprune.base.ending import end_on_signals
from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click, say_stopped
from edgeprune.base.table import render_table
from edgeprune.bundle import MANIFEST, Bundle, open_bundle
from edgeprune.runtime.first_hour.checklist import checklist
from edgeprune.runtime.first_hour.runner import (
    differences,
    do_step,
    read_results,
    run_checklist,
    this_python,
    work_folder,
)
from edgeprune.runtime.first_hour.step import Job, Step

TYPED = "python -m edgeprune.runtime.first_hour"
# a word of the board's name -> the target to build for it; of a board that is none of these the one that fits any Orin
TARGETS = {
    "AGX Orin": "jetson-agx-orin",
    "Orin NX": "jetson-orin-nx",
    "Orin Nano": "jetson-orin-nano",
    "Thor": "jetson-thor",
}


@click.command(help=__doc__)
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, metavar="BUNDLE")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("first-hour.json"), show_default=True, help="Results."
)
@click.option("--camera", default="csi://0", show_default=True, help="The CSI camera to try.")
@click.option("--only", multiple=True, help="These steps alone, by name; several times.")
@click.option("--list", "lists", is_flag=True, help="Print the steps and do none; without a BUNDLE those of any.")
@click.option("--compare", "compares", is_flag=True, help="Instead: two results files side by side.")
@click.option("--step", hidden=True, help="Do this one, in this process.")
def first_hour(
    paths: tuple[Path, ...],
    out: Path,
    camera: str,
    only: tuple[str, ...],
    lists: bool,
    compares: bool,
    step: str | None,
) -> None:
    check_environment()
    if compares:
        if len(paths) != 2:
            raise InputError(f"--compare takes two results files, not {len(paths)}")
        first, second = (read_results(path) for path in paths)
        names = [
            f"{each['board']}, JetPack {each['jetpack'] or '?'} (L4T {each['l4t']})"
            for each in (first["of"], second["of"])
        ]
        columns = {
            "step": ("step", ""),
            "figure": ("figure", ""),
            "first": (names[0], ".4g"),
            "second": (names[1], ".4g"),
        }
        click.echo(render_table(differences(first, second), columns))
        return
    if lists and not paths:
        print_steps(checklist(None))
        return
    if len(paths) != 1:
        raise InputError(f"name one bundle: {how_to_build()}")
    bundle = open_board_bundle(paths[0])
    steps = {each.name: each for each in checklist(bundle)}
    if lists:
        print_steps(steps.values())
        return
    for name in (*only, *([step] if step else [])):
        if name not in steps:
            raise InputError(f"there is no step {name!r}; --list prints them")
    if step:
        results = read_results(out)["steps"] if out.exists() else {}
        earlier = {name: row["found"] for name, row in results.items() if row["found"]}
        do_step(steps[step], Job(bundle, work_folder(out), camera, earlier))
        return
    command = this_python(paths[0], "--out", out, "--camera", camera, "--step")
    wanted = [each for name, each in steps.items() if not only or name in only]
    done = run_checklist(wanted, bundle, out, command)["steps"]
    rows = [
        {"step": each.name, "status": done[each.name]["status"], "reason": done[each.name]["reason"]} for each in wanted
    ]
    click.echo(render_table(rows, {"step": ("step", ""), "status": ("status", ""), "reason": ("reason", "")}))
    click.echo(f"wrote {out}; engines, layers and logs: {work_folder(out)}")


def print_steps(steps: Iterable[Step]) -> None:
    for each in steps:
        click.echo(f"{each.name:32}{each.question}")


def how_to_build() -> str:
    """A bundle for this board, in words."""
    board = board_name() or ""
    target = next((target for word, target in TARGETS.items() if word in board), "jetson-orin")
    return f"`edgeprune build --target {target}` makes it on a workstation and `edgeprune deploy` copies it here"


def open_board_bundle(folder: Path) -> Bundle:
    """Raises InputError as `open_bundle`; where there is none, with the target of this board."""
    if not os.path.lexists(folder / MANIFEST):
        there = f"has no {MANIFEST}" if os.path.isdir(folder) else "is not there"
        raise InputError(f"no bundle: {folder} {there}; {how_to_build()}")
    return open_bundle(folder)


def main() -> None:
    end_on_signals()
    sys.exit(
        run_click(first_hour, "first_hour", TYPED, lambda: say_stopped("stopped; the same command goes on from here"))
    )


if __name__ == "__main__":
    main()
