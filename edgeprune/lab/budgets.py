"""Budgets of latency held on this machine: by a bundle on labelled frames, alone and beside a process that takes one core half
of the time.

    python -m edgeprune.lab.budgets out/bundles/street-tiny-onnx-cpu --data camvid --engine onnxruntime --engine openvino

Budgets lie evenly by ratio from 1.1 times what the smallest bucket takes, fit included, to what `full` takes. Every frame asks
for `full`, so that the budget alone decides; after a larger bucket the smallest one's tail runs too, on the same trunk: a
frame in which the smallest was late, or would have been, is no fault of the choice, and is left out of `held`. Every bucket
answers every frame once, alone; the mIoU of a budget, or the figure of another task, is that of these answers, each frame's of
the bucket that it got. With the 101 frames of CamVid's val, at 60 ms, it takes about four minutes an engine.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import click
import numpy as np

from edgeprune.base.errors import choose
from edgeprune.base.exit_code import run_click
from edgeprune.base.owning import own
from edgeprune.base.table import INLINE, render_table, write_csv
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.data import Sample, spread
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.accuracy import open_scored
from edgeprune.evaluate.tasks import METRICS, Metric
from edgeprune.evaluate.tasks.metric import Columns, KeptAnswers, check_classes
from edgeprune.runtime.budget.kept import longest_run
from edgeprune.runtime.budget.start import start_governor
from edgeprune.runtime.budget.wanted import Budget
from edgeprune.runtime.engines import Session
from edgeprune.runtime.engines.engine import Outputs, UInt8
from edgeprune.runtime.preparing import require_engine
from edgeprune.runtime.row import milliseconds

TYPED = "python -m edgeprune.lab.budgets"
LEAST = 1.1  # times the smallest bucket's median
BUSY = """
import time
while True:
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        pass
    time.sleep(0.05)
"""
QUIET, BESIDE = "alone", "beside half a core"
COLUMNS = {
    "engine": ("engine", ""),
    "load": ("machine", ""),
    "limit": ("budget", ""),
    "p50_ms": ("p50 ms", ".1f"),
    "p95_ms": ("p95 ms", ".1f"),
    "p99_ms": ("p99 ms", ".1f"),
    "judged": ("frames it can be held in", ""),
    "held": ("held in %", ".1f"),
    "longest_over": ("over in a row", ""),
    "tokens": ("tokens %", ".0f"),
}  # then the figure of the bundle's task, and the buckets


@dataclass(frozen=True)
class BudgetRow:
    """A budget, or a fixed bucket.

    Attributes:
        limit: `33ms`, or the bucket's name.
        judged: frames in which the smallest bucket would have been in time.
        held: of those, the share that were, in hundredths; None for a bucket.
        longest_over: the most of those in a row that were not.
        tokens: in hundredths of the dense model's.
        figures: that of the bundle's task by its name, 0 to 1; None where nothing was scored.
        buckets: how many frames each had.
    """

    engine: str
    load: str
    limit: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    judged: int | None
    held: float | None
    longest_over: int | None
    tokens: float
    figures: Mapping[str, float | None] = field(metadata=INLINE)
    buckets: str


@dataclass
class Frames:
    """Labelled frames, and what graphs of all buckets and engines answered to them: `kept` answers, by the task's `metric`."""

    data_set: DataSet
    preprocess: Preprocess
    samples: list[Sample]
    metric: type[Metric]
    answers: KeptAnswers
    kept: int = 0

    @classmethod
    def of(cls, bundle: Bundle, data: str, count: int | None) -> "Frames":
        data_set, manifest = load_data_set(data), bundle.manifest
        metric = choose(METRICS, manifest.task, "task")
        samples = open_scored(manifest.task, data_set, "val")
        picked = [samples[index] for index in spread(len(samples), count)]
        return cls(data_set, Preprocess.of(manifest), picked, metric, metric.answers(manifest, data_set))

    def keep(self, outputs: Outputs, sample: Sample) -> int:
        """Keeps an answer; its place among `answers`."""
        self.answers.add(outputs, sample)
        self.kept += 1
        return self.kept - 1


class Run:
    """What was seen of one budget, or bucket; `places`: of the answers to its frames."""

    def __init__(self, frames: Frames):
        self.frames = frames
        self.places: list[int] = []
        self.latency_ms: list[float] = []
        self.smallest_ms: list[float] = []
        self.buckets: list[str] = []

    def row(self, bundle: Bundle, engine: str, load: str, limit: str, limit_ms: float | None) -> BudgetRow:
        p50_ms, p95_ms, p99_ms = np.percentile(self.latency_ms, [50, 95, 99])
        over_J = [
            took_ms > (limit_ms or 0.0)
            for took_ms, smallest_ms in zip(self.latency_ms, self.smallest_ms, strict=True)
            if limit_ms is not None and smallest_ms <= limit_ms
        ]
        layers = [bundle.bucket(name).token_layers for name in self.buckets]
        all_layers = bundle.manifest.depth * bundle.manifest.tokens
        return BudgetRow(
            engine,
            load,
            limit,
            float(p50_ms),
            float(p95_ms),
            float(p99_ms),
            None if limit_ms is None else len(over_J),
            None if limit_ms is None or not over_J else 100 * (1 - sum(over_J) / len(over_J)),
            None if limit_ms is None else longest_run(np.array(over_J, bool)),
            100 * sum(layers) / len(layers) / all_layers,
            {self.frames.metric.figure: self.frames.answers.figure_of(self.places)},
            ", ".join(f"{name} {count}" for name, count in sorted(Counter(self.buckets).items())),
        )


def study_engine(bundle: Bundle, engine: str, frames: Frames, budgets: int, passes: int) -> Iterator[BudgetRow]:
    """Every bucket alone, then every budget, alone and beside a busy process."""
    precision = bundle.default_precision()
    opener = require_engine(bundle, engine)
    buckets, _ = opener.able(bundle, precision)
    size = (bundle.manifest.height, bundle.manifest.width)
    with ExitStack() as held:
        session = opener.open(bundle, precision, buckets=buckets, threads=bundle.manifest.target.threads)
        held.callback(session.close)
        fixed = {name: run_bucket(session, frames, name) for name in buckets}
        for name, run in fixed.items():
            yield run.row(bundle, engine, QUIET, name, None)
        least_ms, most_ms = LEAST * median(fixed[buckets[0]].latency_ms), median(fixed[buckets[-1]].latency_ms)
        for load in (QUIET, BESIDE):
            for limit_ms in np.geomspace(least_ms, most_ms, budgets):
                with busy(load == BESIDE):
                    run = run_budget(session, buckets, size, frames, float(limit_ms), passes)
                run.places = [
                    fixed[bucket].places[each % len(frames.samples)] for each, bucket in enumerate(run.buckets)
                ]
                yield run.row(bundle, engine, load, f"{limit_ms:.1f}ms", float(limit_ms))


def run_bucket(session: Session, frames: Frames, name: str) -> Run:
    """All frames in one bucket."""
    run = Run(frames)
    for sample in frames.samples:
        start_ns = time.monotonic_ns()
        session.start(fitted(frames, sample))
        outputs = session.finish(name)
        run.latency_ms.append(milliseconds(start_ns, time.monotonic_ns()))
        run.smallest_ms.append(run.latency_ms[-1])
        run.buckets.append(name)
        run.places.append(frames.keep(outputs, sample))
    return run


def run_budget(
    session: Session, buckets: list[str], size: tuple[int, int], frames: Frames, limit_ms: float, passes: int
) -> Run:
    """All frames, `passes` times, within a budget of latency."""
    governor = start_governor(Budget(latency_ms=limit_ms), session, buckets, size)
    run = Run(frames)
    for sample in frames.samples * passes:
        start_ns = time.monotonic_ns()
        fitted_HW3 = fitted(frames, sample)
        fitted_ns = time.monotonic_ns()
        session.start(fitted_HW3)
        trunk_ns = time.monotonic_ns()
        trunk_ms, spent_ms = milliseconds(fitted_ns, trunk_ns), milliseconds(start_ns, trunk_ns)
        bucket = governor.choose(buckets[-1], trunk_ms, spent_ms)
        chosen_ns = time.monotonic_ns()
        session.finish(bucket)
        end_ns = time.monotonic_ns()
        governor.learn(bucket, milliseconds(chosen_ns, end_ns), milliseconds(start_ns, end_ns))
        run.latency_ms.append(milliseconds(start_ns, end_ns))
        again_ns = time.monotonic_ns()
        session.finish(buckets[0])
        would_ms = spent_ms + milliseconds(again_ns, time.monotonic_ns())
        run.smallest_ms.append(run.latency_ms[-1] if bucket == buckets[0] else would_ms)
        run.buckets.append(bucket)
    return run


def fitted(frames: Frames, sample: Sample) -> UInt8:
    """The frame at the size of the input."""
    return frames.preprocess.fit(sample.image_HW3)


@contextmanager
def busy(wanted: bool) -> Iterator["subprocess.Popen[bytes] | None"]:
    """Beside a process that takes one core half of the time: 50 ms of each 100."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if wanted else None
    try:
        yield process
    finally:
        if process:
            process.kill()
            process.wait()


def columns_of(metric: type[Metric]) -> Columns:
    """Of a table, with the figure of the bundle's task."""
    figure = {f"figures.{metric.figure}": metric.columns[metric.figure]}
    return COLUMNS | figure | {"buckets": ("buckets", "")}


def summary(rows: list[BudgetRow]) -> Iterator[str]:
    """Of each engine and load a line: all its budgets together."""
    judged = [(row, row.judged, row.held) for row in rows if row.judged is not None and row.held is not None]
    for engine, load in dict.fromkeys((row.engine, row.load) for row, _, _ in judged):
        of = [(frames, held) for row, frames, held in judged if (row.engine, row.load) == (engine, load)]
        frames = sum(each for each, _ in of)
        mean, least = sum(each * held for each, held in of) / frames, min(held for _, held in of)
        yield f"{engine}, {load}: held in {mean:.1f}% of {frames} frames, in {least:.1f}% at the worst budget"


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Data set, of which the labelled frames of `val` are taken.")
@click.option("--frames", type=click.IntRange(1), help="So many, evenly spread; default: all.")
@click.option("--engine", "engines", multiple=True, help="Repeatable; default: the target's.")
@click.option("--budgets", default=5, show_default=True, type=click.IntRange(2, 50))
@click.option(
    "--passes", default=2, show_default=True, type=click.IntRange(1, 1000), help="Over the frames, of each budget."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows as CSV.")
def main(
    bundle: Path,
    data: str,
    frames: int | None,
    engines: tuple[str, ...],
    budgets: int,
    passes: int,
    out: Path | None,
) -> None:
    if out:
        own([out], [bundle], among=[data])
    opened = open_bundle(bundle)
    labelled = Frames.of(opened, data, frames)
    check_classes(opened.manifest.names, f"bundle {opened.folder}", labelled.data_set)
    rows = [
        row
        for engine in engines or [opened.manifest.target.engine]
        for row in study_engine(opened, engine, labelled, budgets, passes)
    ]
    if out:
        write_csv(out, rows)
    click.echo(render_table(rows, columns_of(labelled.metric)))
    for line in summary(rows):
        click.echo(line)


if __name__ == "__main__":
    sys.exit(run_click(main, "budgets", TYPED))
