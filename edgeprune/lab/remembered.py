"""What a bundle's memory between frames is worth on a clip: its labels and its time beside those of each frame by itself, and
of the dense network in FP32.

    edgeprune build --memory --out out/bundles/memory
    python -m edgeprune.lab.remembered out/bundles/memory ../shared/data/streams/car-detection.mp4

Each frame goes through all ways in turn, in one process. `equal` is the share of labels that are the dense network's; `least`
of the worst frame; `where it changed` of the pixels whose dense label is another than in the frame before. `labels repeated`
labels every so many frames by themselves, as seldom as makes it take as long on the mean as remembering. Where a clip has
labels there is the mIoU of all frames, and video consistency over eight (see `lab.through_time`). Times are of the graphs,
without fitting.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

import click
import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.table import render_table, write_csv
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.bundle.references import LABELS
from edgeprune.data.nearest import resize_nearest
from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.through_time.scores import COLUMNS, DENSE, IGNORED, REPEATED, Judged, Labels, WayRow, score
from edgeprune.runtime.cameras import Frame, open_source
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.memory_session import MemorySession
from edgeprune.runtime.opening import open as open_stream

TYPED = "python -m edgeprune.lab.remembered"
ALONE, REMEMBERED = "each frame by itself", "remembered"
LEAST_FRAMES = 3
SHOWN = {name: column for name, column in COLUMNS.items() if name != "share"} | {
    "tokens": ("tokens", ".1%"),
    "mean_ms": ("mean ms", ".1f"),
    "p50_ms": ("p50", ".1f"),
    "speed": ("x dense", ".2f"),
}


@dataclass
class TimedRow(WayRow):
    """With the tokens that were computed, as a share of the dense network's, and times of a frame."""

    tokens: float = 1.0
    mean_ms: float = 0.0
    p50_ms: float = 0.0
    speed: float = 0.0


@dataclass
class Way:
    """What one way made of the frames."""

    answers: list[Labels] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)

    def add(self, labels: Labels, ms: float, tokens: float) -> None:
        self.answers.append(labels)
        self.ms.append(ms)
        self.tokens.append(tokens)


def ask(bundle: Bundle, given: Sequence[Frame], engine: str, threads: int) -> tuple[Judged, dict[str, Way]]:
    """Every frame through every way."""
    fit, ways, frames = Preprocess.of(bundle.manifest), {DENSE: Way(), ALONE: Way(), REMEMBERED: Way()}, Judged()
    size = (bundle.manifest.height, bundle.manifest.width)
    with ExitStack() as held:
        dense = held.enter_context(closing(ENGINES[engine].open_graph(bundle.path(bundle.manifest.dense), threads)))
        options: dict[str, Any] = {"engine": engine, "threads": threads}
        streams = {
            ALONE: held.enter_context(open_stream(bundle.folder, chooser="in-frame", **options)),
            REMEMBERED: held.enter_context(open_stream(bundle.folder, **options)),
        }
        if not isinstance(streams[REMEMBERED].session, MemorySession):
            raise InputError(
                f"{engine} leaves the memory of {bundle.folder} out on this machine: its smallest tail takes as long as a "
                "frame by itself; name another --engine"
            )
        for frame in given:
            fitted_HW3 = fit.fit(frame.image_HW3)
            began_s = perf_counter()
            labels_hw = dense(fitted_HW3)[LABELS]
            ways[DENSE].add(enlarged(labels_hw, size), 1000 * (perf_counter() - began_s), 1.0)
            frames.dense.append(ways[DENSE].answers[-1])
            for name, stream in streams.items():
                result = stream.segment(fitted_HW3)
                facts = result.facts
                took_ms = facts.trunk_ms + facts.choose_ms + facts.tail_ms
                ways[name].add(np.asarray(result.labels, np.int64), took_ms, facts.token_share)
            if frame.label_HW is not None:
                frames.true.append(fit.fit_label(frame.label_HW, IGNORED))
    return frames, ways


def enlarged(labels_hw: np.ndarray, size: tuple[int, int]) -> Labels:
    return resize_nearest(labels_hw, *size).astype(np.int64)


def compare(frames: Judged, ways: dict[str, Way]) -> list[TimedRow]:
    """A row of each way, of all frames after the first."""
    dense_ms = fmean(ways[DENSE].ms[1:])
    every = max(2, round(fmean(ways[ALONE].ms[1:]) / fmean(ways[REMEMBERED].ms[1:])))
    every = min(every, len(frames.dense) - 1)  # a clip that is so short has one frame more that is labelled
    repeated = Way()
    for at in range(len(frames.dense)):
        at_ms = ways[ALONE].ms[at] if at % every == 0 else 0.0
        repeated.add(ways[ALONE].answers[at - at % every], at_ms, ways[ALONE].tokens[at] if at % every == 0 else 0.0)
    rows = []
    for name, way in {**ways, f"{REPEATED}, each {every} times": repeated}.items():
        row = TimedRow(**vars(score(1.0, name, frames, way.answers)))
        row.mean_ms, row.p50_ms, row.tokens = fmean(way.ms[1:]), median(way.ms[1:]), fmean(way.tokens[1:])
        row.speed = dense_ms / row.mean_ms
        rows.append(row)
    return rows


def refuse_few(clip: str, given: Sequence[Frame]) -> None:
    """Raises InputError where nothing comes after the first frame, which every way computes whole."""
    if len(given) < LEAST_FRAMES:
        raise InputError(
            f"{clip} has {len(given)} frames, expected {LEAST_FRAMES} or more; name a clip, or a longer one"
        )


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("clip")
@click.option("--engine", type=click.Choice(list(ENGINES)), help="By default the bundle's.")
@click.option("--frames", default=150, show_default=True, type=click.IntRange(LEAST_FRAMES, 10**5), help="In a row.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows as CSV.")
def main(bundle: Path, clip: str, engine: str | None, frames: int, out: Path | None) -> None:
    opened = open_bundle(bundle)
    opened.with_memory()
    if LABELS not in opened.manifest.outputs:
        raise InputError(f"{bundle} answers with things, and this study compares labels; name a bundle of areas")
    target = opened.manifest.target
    with closing(open_source(clip)) as source:
        given = list(islice(source, frames))
    refuse_few(clip, given)
    rows = compare(*ask(opened, given, engine or target.engine, target.threads))
    click.echo(f"{len(given)} frames of {Path(clip).name}, {engine or target.engine}")
    click.echo(render_table(rows, SHOWN))
    if out:
        write_csv(out, rows)


if __name__ == "__main__":
    sys.exit(run_click(main, "remembered", TYPED))
