"""Latency and energy of graphs side by side: one process per graph, interleaved rounds, against the dense FP32 model.

Whatever slows the machine down for a while (heat, other programs) slows every graph of a round alike, so speed-ups are
quotients within a round, and their median is reported with their spread.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune import street as synthetic
from edgeprune.base.errors import choose
from edgeprune.base.machine import describe_machine
from edgeprune.base.statistics import Extremes, Latency, latency, ratio_by_round
from edgeprune.base.table import INLINE
from edgeprune.bundle import DENSE, MANIFEST, Bundle
from edgeprune.data import Samples, spread
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.accuracy import AccuracyRow, figures_of
from edgeprune.evaluate.graphs import ALL_GRAPHS, AUTO, GraphSelection, precision_of
from edgeprune.evaluate.tasks import METRICS
from edgeprune.evaluate.timing import Entry, time_entries
from edgeprune.evaluate.worker import REMEMBERED, Job
from edgeprune.runtime.meters import Meter

logger = logging.getLogger(__name__)

FRAMES = 24  # of a round
STREET_SEED = 7_000_001  # far from the seeds of the street's training and validation scenes


@dataclass(frozen=True)
class BenchRow:
    """What one graph takes. None where unknown.

    Attributes:
        graph: `dense`, `baseline`, `stem+head`, `trunk+tail`, `single` (a family without a trunk), `trunk`, or `remembered`:
            trunk and tail of frames that remember those before.
        bucket: of a bucket its name; `dense`, `auto`, or a baseline's file name without its extension.
        latency_ms: of a frame, over all rounds.
        speedup_vs_dense_fp32: the median over the rounds.
        speedup_spread: of it, over the rounds.
        peak_mb: of the graph's process, resident: engine, graphs and frames.
        figures: the metric's brief ones by name, 0 to 1; `with_accuracy` fills them in.
        buckets: how many frames of a round each bucket had.
    """

    graph: str
    bucket: str | None
    precision: str
    engine: str
    latency_ms: Latency
    speedup_vs_dense_fp32: float
    speedup_spread: Extremes
    mj_per_frame: float | None
    peak_mb: float | None
    figures: Mapping[str, float | None] = field(metadata=INLINE)
    buckets: dict[str, int]

    @property
    def spread_ms(self) -> float:
        """How far the medians of the rounds lie apart, but for what slowed dense FP32 down alike."""
        return self.latency_ms.p50 * (self.speedup_spread.most - self.speedup_spread.least) / self.speedup_vs_dense_fp32


@dataclass(frozen=True)
class BenchResult:
    """Graphs side by side.

    Attributes:
        frames: of a round.
        source: where they came from.
        stem_head_share: time of stem and head, as a share of dense FP32's.
        engines: `Session.describe()` of each.
        machine: of `describe_machine`.
    """

    threads: int
    rounds: int
    frames: int
    source: str
    energy_status: str
    stem_head_share: float
    engines: dict[str, dict[str, Any]]
    machine: dict[str, Any]
    rows: list[BenchRow]


def bench(
    bundle: Bundle,
    rounds: int,
    meter: Meter,
    graphs: GraphSelection = ALL_GRAPHS,
    *,
    engines: Sequence[str] | None = None,
    samples: Samples | None = None,
    frames: int = FRAMES,
) -> BenchResult:
    """Times dense FP32, every bucket in every precision, `auto`, the trunk alone, and every bucket of its memory, over the same
    frames.

    Args:
        bundle: from `open_bundle`.
        rounds: in each, every graph runs over all frames; each starts with another graph.
        meter: runs around each graph's part of a round.
        graphs: which are timed, beside dense FP32 and the stem with the head.
        engines: each runs every graph; speed-ups are over the first one's dense FP32. The target's alone by default.
        samples: frames are spread evenly over them; scenes of the synthetic street, rendered ahead, by default.
        frames: of a round.

    Raises:
        InputError: what a worker refuses.
        RunError: a worker died.
    """
    manifest = bundle.manifest
    figures = choose(METRICS, manifest.task, "task").brief
    engines, threads = engines or [manifest.target.engine], graphs.threads or manifest.target.threads
    with tempfile.TemporaryDirectory(prefix="edgeprune-bench-") as folder:
        logger.info(f"preparing {frames} frames")
        source, frames_FHW3 = bench_frames(bundle, samples, frames)
        common = write_job(bundle, frames_FHW3, Path(folder), threads)
        entries = [
            entry for engine in engines for entry in list_entries(bundle, replace(common, engine=engine), graphs)
        ]
        time_entries(entries, rounds, meter)
        dense = next(entry for entry in entries if entry.bucket == DENSE)
        stem_head = next(entry for entry in entries if entry.graph == "stem+head")
        return BenchResult(
            threads=threads,
            rounds=rounds,
            frames=len(frames_FHW3),
            source=source,
            energy_status=entries[0].energies[-1].status,
            stem_head_share=ratio_by_round(stem_head.rounds_ms, dense.rounds_ms).median,
            engines={entry.job.engine: entry.description for entry in entries},
            machine=describe_machine(),
            rows=[row_of(entry, dense, figures) for entry in entries],
        )


def write_job(bundle: Bundle, frames_FHW3: np.ndarray, folder: Path, threads: int) -> Job:
    """What all jobs over a bundle have in common, on the target's engine, but the kind of each; their files go to a folder."""
    frames_path, manifest_path = folder / "frames.npy", folder / MANIFEST
    np.save(frames_path, frames_FHW3)
    manifest_path.write_text(bundle.manifest.model_dump_json())
    engine = bundle.manifest.target.engine
    return Job("", engine, threads, str(frames_path), bundle=str(bundle.folder), manifest=str(manifest_path))


def bench_frames(bundle: Bundle, samples: Samples | None, count: int) -> tuple[str, np.ndarray]:
    """Where frames come from, and the frames: uint8 (F, H, W, 3) at the input size."""
    height, width = bundle.manifest.height, bundle.manifest.width
    if samples is None:
        images = [synthetic.scene(STREET_SEED + index, height, width)[0] for index in range(count)]
        return f"{count} scenes of the synthetic street, seeds {STREET_SEED} and up", np.stack(images)
    picked = spread(len(samples), count)
    preprocess = Preprocess.of(bundle.manifest)
    images = [preprocess.fit(samples[index].image_HW3) for index in picked]
    return f"{len(picked)} frames, {samples.names[picked[0]]} to {samples.names[picked[-1]]}", np.stack(images)


def list_entries(bundle: Bundle, job: Job, graphs: GraphSelection = ALL_GRAPHS) -> list[Entry]:
    """What is timed, in the order of the table. `job`: what all have in common."""

    def entry(name: str, row: str | None, **differing: str) -> Entry:
        return Entry(name, row, replace(job, **differing))  # type: ignore[arg-type]  # all of them are text

    manifest = bundle.manifest
    entries = [entry("dense", DENSE, kind="graph", graph=str(bundle.path(manifest.dense)))]
    for path in graphs.baselines:
        entries.append(entry("baseline", path.stem, kind="graph", graph=str(path), precision=precision_of(path)))
    entries.append(entry("stem+head", None, kind="graph", graph=str(bundle.path(manifest.stem_head))))
    for precision in graphs.precisions or manifest.graphs:
        tails = manifest.graphs[precision].tails
        gated = bool(tails)
        graph = "trunk+tail" if gated else "single"
        for bucket in (each for each in manifest.buckets if not gated or each.name in tails):
            entries.append(entry(graph, bucket.name, kind="bucket", precision=precision, bucket=bucket.name))
        if gated:
            entries.append(entry(graph, AUTO, kind="auto", precision=precision))
            entries.append(entry("trunk", None, kind="trunk", precision=precision))
    if manifest.memory:
        for precision in (each for each in manifest.memory.graphs if each in (graphs.precisions or [each])):
            for bucket in manifest.memory.buckets:
                entries.append(entry(REMEMBERED, bucket.name, kind=REMEMBERED, precision=precision, bucket=bucket.name))
    return entries


def row_of(entry: Entry, dense: Entry, figures: Sequence[str] = ()) -> BenchRow:
    """What was measured, against the dense FP32 graph of the same rounds; `figures`: names of those that may be known later."""
    faster = ratio_by_round(dense.rounds_ms, entry.rounds_ms)
    return BenchRow(
        graph=entry.graph,
        bucket=entry.bucket,
        precision=entry.job.precision,
        engine=entry.job.engine,
        latency_ms=latency(entry.rounds_ms),
        speedup_vs_dense_fp32=faster.median,
        speedup_spread=faster.extremes,
        mj_per_frame=mj_per_frame([energy.total_j for energy in entry.energies], sum(map(len, entry.rounds_ms))),
        peak_mb=entry.peak_mb,
        figures=dict.fromkeys(figures),
        buckets=entry.buckets,
    )


def with_accuracy(result: BenchResult, scored: Sequence[AccuracyRow]) -> BenchResult:
    """A result with the accuracy of each graph that `evaluate` scored."""
    rows = []
    for row in result.rows:
        known = figures_of(scored, row.bucket, row.precision, row.engine)
        rows.append(replace(row, figures={name: known.get(name) for name in row.figures}))
    return replace(result, rows=rows)


def mj_per_frame(joules: Sequence[float | None], frames: int) -> float | None:
    """Millijoules of a frame, of the energy of each round; None where a round has none."""
    known = [each for each in joules if each is not None]
    return 1000 * sum(known) / frames if len(known) == len(joules) else None
