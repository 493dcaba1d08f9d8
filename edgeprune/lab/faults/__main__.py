"""Faults injected into camera loops at random times, and what becomes of each.

    python -m edgeprune.lab.faults --faults 300 --seed 0

A trial is an `edgeprune run` in a process of its own: a live camera (HTTP on loopback, or a V4L2 device), a record, a video, a
page that is watched, a power sensor. Some seconds after its first frame a fault comes. Then frames have to come again, or the
run has to end as documented, in time; rows and video from before have to be readable; nothing may be left behind.

Disks need root (ext4 in a file, mounted where no other process sees it), V4L2 cameras and steps of the clock a C compiler;
where they can't be, that is said, and the other kinds take their share.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click

from edgeprune.base.errors import RunError, choose
from edgeprune.base.exit_code import run_click
from edgeprune.base.table import render_table
from edgeprune.bundle import open_bundle
from edgeprune.lab.faults.disk import own_mounts
from edgeprune.lab.faults.kinds import KINDS
from edgeprune.lab.faults.preloaded import compiled
from edgeprune.lab.faults.trial import Result, Tools, Trial

TYPED = "python -m edgeprune.lab.faults"
TRIALS = "trials.jsonl"
COLUMNS = {
    "kind": ("kind", ""),
    "trials": ("trials", "d"),
    "recovered": ("recovered", "d"),
    "stopped": ("stopped cleanly", "d"),
    "failed": ("failed", "d"),
    "slowest_s": ("slowest, s", ".1f"),
}


def prepare(folder: Path, bundle: Path | None) -> tuple[Tools, list[str]]:
    """What trials need, and the kinds that can be injected here; of the others it is said why not."""
    libraries = {}
    for name in ("camera", "clock"):
        try:
            libraries[name] = compiled(name, folder)
        except (OSError, subprocess.CalledProcessError) as error:
            click.echo(
                f"no {name} that can be preloaded: it needs a C compiler and Linux's headers ({error})", err=True
            )
    able = [kind for kind, about in KINDS.items() if not about.clock or "clock" in libraries]
    try:
        own_mounts()
    except OSError as error:
        click.echo(f"no faults of disks: mounting one needs root ({error})", err=True)
        able = [kind for kind in able if not KINDS[kind].disk]
    if bundle is None:
        from edgeprune.lab.faults.bundle import build_tiny  # torch

        bundle = build_tiny(folder)
    return Tools(open_bundle(bundle).folder, libraries), able


def summarise(results: Sequence[Result]) -> list[dict[str, object]]:
    """A row for each kind, and one of all."""
    rows = []
    for kind in [*KINDS, "all"]:
        of = [result for result in results if kind in (result.kind, "all")]
        if of:
            counts = {end: sum(result.ended == end for result in of) for end in ("recovered", "stopped", "failed")}
            slowest_s = max(result.seconds for result in of)
            rows.append({"kind": kind, "trials": len(of), **counts, "slowest_s": slowest_s})
    return rows


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--faults", default=300, show_default=True, type=click.IntRange(1), help="So many, the kinds in turn.")
@click.option("--seed", default=0, show_default=True)
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 64), help="So many at a time.")
@click.option("--kind", "kinds", multiple=True, help=f"These alone: {', '.join(KINDS)}.")
@click.option("--number", type=click.IntRange(0), help="The trial of this number alone.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: one of random weights, which is built.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="A new folder: a line of JSON for each trial, and all of those that failed.",
)
def main(
    faults: int,
    seed: int,
    jobs: int,
    kinds: Sequence[str],
    number: int | None,
    bundle: Path | None,
    keep: Path | None,
) -> None:
    for kind in kinds:
        choose(KINDS, kind, "kind of faults")
    if keep:
        keep.mkdir()
    with tempfile.TemporaryDirectory(prefix="edgeprune-faults-", ignore_cleanup_errors=True) as name:
        folder = Path(keep or name).resolve()
        tools, able = prepare(folder, bundle)
        able = [kind for kind in able if not kinds or kind in kinds]
        if not able:
            raise RunError("none of these faults can be injected here")
        numbers = range(faults) if number is None else [number]
        trials = [Trial(each, able[each % len(able)], seed, folder / f"{each:05d}", tools) for each in numbers]
        results = run_all(trials, jobs, folder / TRIALS)
    click.echo(render_table(summarise(results), COLUMNS))
    if failed := sum(result.ended == "failed" for result in results):
        raise RunError(f"{failed} of {len(results)} trials failed")


def run_all(trials: Sequence[Trial], jobs: int, out: Path) -> list[Result]:
    """Their results, each said and written as it comes."""
    results = []
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(trial.run) for trial in trials]
        try:
            for done in as_completed(running):
                result = done.result()
                results.append(result)
                line = f"{len(results)}/{len(trials)} {result.kind} {result.number}: {result.ended}, {result.seconds:.1f} s"
                click.echo(f"{line} ({result.about}) {'; '.join(result.problems)}".strip(), err=True)
                with out.open("a") as file:
                    file.write(json.dumps(dataclasses.asdict(result)) + "\n")
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C those that run are waited for alone
    return results


if __name__ == "__main__":
    sys.exit(run_click(main, "faults", TYPED))
