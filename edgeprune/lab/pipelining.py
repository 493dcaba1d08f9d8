"""What it gives to fit the next frame, and to draw and write the last one, beside the graphs; and what the loop itself costs.

    python -m edgeprune.lab.pipelining out/bundles/street-tiny-onnx-cpu

Each run is a process of its own: `edgeprune run` with each pipeline, in a new order in each round, on frames of 640x480 that
are rendered before. A stream without a clock gives the throughput; one that is played at its own rate, faster than the loop or
slower, how old frames are when their labels are there. Throughput (frames a second) and latency (frame in hand to labels in
hand, waiting in between included) are columns of their own: a pipeline that makes more of one may make the other worse. `x` is
the throughput over that of the plain loop of the same round.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click

from edgeprune.base.errors import RunError
from edgeprune.base.exit_code import run_click
from edgeprune.base.owning import own
from edgeprune.base.statistics import extremes
from edgeprune.base.table import render_table, write_csv
from edgeprune.bundle import open_bundle
from edgeprune.lab.served import command_of_run
from edgeprune.runtime.pipeline import PIPELINES

TYPED = "python -m edgeprune.lab.pipelining"
PLAIN = next(iter(PIPELINES))
STREET = "synthetic://street?seed=1&height=480&width=640&ahead=8"
COLUMNS = {
    "source": ("source", ""),
    "video": ("video", ""),
    "threads": ("threads", ""),
    "pipeline": ("pipeline", ""),
    "fps": ("frames/s", ".1f"),
    "times": ("x", ".2f"),
    "least": ("min", ".2f"),
    "most": ("max", ".2f"),
    "p50_ms": ("latency p50 ms", ".1f"),
    "p95_ms": ("p95 ms", ".1f"),
    "age_p50_ms": ("age p50 ms", ".1f"),
    "age_p95_ms": ("p95 ms", ".1f"),
    "loop_ms": ("loop's own ms", ".2f"),
}


class Setting(NamedTuple):
    """What is run: a source with its options, whether an overlay video is written, and the engine's threads."""

    source: str
    words: tuple[str, ...]
    video: bool
    threads: int


PLAYED = "--realtime"
SETTINGS = [
    Setting("no clock", ("--camera", STREET), video=False, threads=2),
    Setting("no clock", ("--camera", STREET), video=True, threads=2),
    Setting("no clock", ("--camera", STREET), video=True, threads=1),
    Setting("60 fps", ("--camera", f"{STREET}&fps=60", PLAYED), video=True, threads=2),
    Setting("10 fps", ("--camera", f"{STREET}&fps=10", PLAYED), video=True, threads=2),
]


@dataclass(frozen=True)
class PipelineRow:
    """A pipeline in a setting: medians over the rounds; of `times`, which is over the plain loop, the extremes too.

    Attributes:
        fps: throughput.
        p50_ms, p95_ms: of the latency.
        age_p50_ms, age_p95_ms: from a frame's capture to its labels; None where no clock captures them.
        loop_ms: what the loop itself takes for a frame, in all its threads.
    """

    source: str
    video: bool
    threads: int
    pipeline: str
    fps: float
    times: float
    least: float
    most: float
    p50_ms: float
    p95_ms: float
    age_p50_ms: float | None
    age_p95_ms: float | None
    loop_ms: float


def run_once(bundle: Path, setting: Setting, pipeline: str, seconds: float) -> dict[str, Any]:
    """The summary of a run. Raises RunError where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--bundle", str(bundle), *setting.words, "--pipeline", pipeline, "--threads", str(setting.threads)]
        words += ["--seconds", str(seconds), "--record", f"{folder}/rows.csv", "--meter", "none"]
        words += ["--out", f"{folder}/overlay.mp4"] if setting.video else []
        done = subprocess.run(command_of_run(words), capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"a run failed: {done.stderr.strip()[-300:]}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def study(bundle: Path, settings: list[Setting], rounds: int, seconds: float) -> Iterator[PipelineRow]:
    """Every setting with every pipeline, in every round."""
    found: dict[tuple[Setting, str], list[dict[str, Any]]] = defaultdict(list)
    for _ in range(rounds):
        for setting in random.sample(settings, len(settings)):
            for pipeline in random.sample(list(PIPELINES), len(PIPELINES)):
                found[setting, pipeline].append(run_once(bundle, setting, pipeline, seconds))
    for setting in settings:
        for pipeline in PIPELINES:
            yield row_of(setting, pipeline, found[setting, pipeline], found[setting, PLAIN])


def row_of(setting: Setting, pipeline: str, runs: list[dict[str, Any]], plain: list[dict[str, Any]]) -> PipelineRow:
    """The medians of a pipeline's runs."""

    def usual(figure: str, key: str) -> float:
        return median(part(run, figure)[key] for run in runs)

    ratios = [run["fps"] / other["fps"] for run, other in zip(runs, plain, strict=True)]
    live = runs[0]["camera"]["live"]
    return PipelineRow(
        setting.source,
        setting.video,
        setting.threads,
        pipeline,
        fps=median(run["fps"] for run in runs),
        times=median(ratios),
        least=extremes(ratios).least,
        most=extremes(ratios).most,
        p50_ms=usual("latency_ms", "p50"),
        p95_ms=usual("latency_ms", "p95"),
        age_p50_ms=usual("age_ms", "p50") if live else None,
        age_p95_ms=usual("age_ms", "p95") if live else None,
        loop_ms=usual("overhead", "ms_per_frame"),
    )


def part(run: Mapping[str, Any], figure: str) -> dict[str, float]:
    found: dict[str, float] = run[figure]
    return found


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1, 600), help="Of a run.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows as CSV.")
def main(bundle: Path, rounds: int, seconds: float, out: Path | None) -> None:
    if out:
        own([out], [bundle])
    open_bundle(bundle)  # what is wrong is said here
    rows = list(study(bundle, SETTINGS, rounds, seconds))
    if out:
        write_csv(out, rows)
    click.echo(render_table(rows, COLUMNS))


if __name__ == "__main__":
    sys.exit(run_click(main, "pipelining", TYPED))
