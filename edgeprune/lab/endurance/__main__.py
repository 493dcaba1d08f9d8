"""A run that goes on: `edgeprune run` on a looped clip at a camera's rate, with a viewer, a record and a video in folders.

    python -m edgeprune.lab.endurance out/bundles/street-tiny-onnx-cpu --minutes 60 --out out/endurance

Its memory is sampled every ten seconds. What it has to keep to (memory, rows, drops, latency, the viewer's pictures, the
disk) stands in a report, endurance.md with endurance.png, in the folder; exit code 1 where a line of it does not hold. On a
machine that does other work, --busy leaves latency out of what decides.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import click

from edgeprune.base.byte_size import read_bytes
from edgeprune.base.errors import RunError
from edgeprune.base.exit_code import run_click
from edgeprune.base.table import write_csv
from edgeprune.bundle import open_bundle
from edgeprune.lab.endurance.checks import check
from edgeprune.lab.endurance.report import write_report
from edgeprune.lab.endurance.running import Place, command_of, watch, write_clip

TYPED = "python -m edgeprune.lab.endurance"
FPS = 15.0  # of the clip, as a camera in daylight gives them


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--camera", default="synthetic://street?seed=1", show_default=True, help="A recording, or what is rendered; looped."
)
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(0.2, 100_000))
@click.option("--keep", default="40MB", show_default=True, help="Disk for rows, and for the film.")
@click.option("--engine", help="Default: the target's.")
@click.option("--busy", is_flag=True, help="The machine does other work: latency decides nothing.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder for all that is written.")
def main(
    bundle: Path,
    camera: str,
    minutes: float,
    keep: str,
    engine: str | None,
    busy: bool,
    out: Path,
) -> None:
    opened = open_bundle(bundle)  # what is wrong is said here
    place, keep_bytes = Place(out), read_bytes(keep, "--keep")
    place.prepare()
    write_clip(camera, place.clip, FPS)
    more = ["--engine", engine] if engine else []
    seen = watch(command_of(bundle, place, 60 * minutes, keep, more), place, 60 * minutes, keep_bytes, not busy)
    checks = check(seen)
    for each in checks:  # an hour of measuring is said before anything else may fail
        click.echo(f"{each.verdict:10}{each.line()}")
    write_csv(out / "memory.csv", seen.samples)
    typed = shlex.join([*TYPED.split(), *sys.argv[1:]])
    title = f"{minutes:g} minutes of {opened.manifest.name}"
    tables, failed = tables_of(place.rows)
    write_report(out / "endurance.md", title, typed, seen, checks, tables)
    click.echo(f"wrote {out / 'endurance.md'}")
    if failed:
        raise RunError(tables)
    if any(each.asked and not each.holds for each in checks):
        click.get_current_context().exit(1)


def tables_of(rows: Path) -> tuple[str, bool]:
    """What `edgeprune report` says of a record; or why it says nothing, and that it failed."""
    command = [sys.executable, "-m", "edgeprune", "report", rows.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=rows.parent)
    except OSError as error:
        return f"`edgeprune report {rows}` did not begin: {error}", True
    if done.returncode:
        return f"`edgeprune report {rows}` failed: {done.stderr.strip()[-300:]}", True
    return done.stdout, False


if __name__ == "__main__":
    sys.exit(run_click(main, "endurance", TYPED))
