"""The check list of the first hour on a board, with its BUNDLE; or, with --compare, two boards' results side by side."""

import sys
from pathlib import Path

import click

from edgeprune.base.errors import EdgepruneError, InputError
from edgeprune.base.table import render_table
from edgeprune.bundle import open_bundle
from edgeprune.runtime.first_hour.checklist import checklist
from edgeprune.runtime.first_hour.runner import compare, do_step, read_results, run_checklist, this_python, work_folder
from edgeprune.runtime.first_hour.step import Job


def say(line: str) -> None:
    click.echo(line, err=True)


@click.command(help=__doc__)
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, metavar="BUNDLE")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("first-hour.json"), show_default=True, help="Results."
)
@click.option("--camera", default="csi://0", show_default=True, help="The CSI camera to try.")
@click.option("--only", multiple=True, help="These steps alone, by name; several times.")
@click.option("--list", "lists", is_flag=True, help="Print the steps and do none.")
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
        click.echo(render_table(compare(first, second), columns))
        return
    if len(paths) != 1:
        raise InputError("name one bundle, as `edgeprune build --target jetson-orin` makes it")
    bundle = open_bundle(paths[0])
    steps = {each.name: each for each in checklist(bundle)}
    if lists:
        for each in steps.values():
            click.echo(f"{each.name:32}{each.question}")
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
    done = run_checklist(wanted, bundle, out, command, say)["steps"]
    rows = [
        {"step": each.name, "status": done[each.name]["status"], "reason": done[each.name]["reason"]} for each in wanted
    ]
    click.echo(render_table(rows, {"step": ("step", ""), "status": ("status", ""), "reason": ("reason", "")}))
    click.echo(f"wrote {out}; engines, layers and logs: {work_folder(out)}")


def main() -> None:
    try:
        code = first_hour.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = 2
    except click.Abort:
        click.echo("stopped; the same command goes on from here", err=True)
        code = 130
    except EdgepruneError as error:
        click.echo(f"first_hour: {error}", err=True)
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
