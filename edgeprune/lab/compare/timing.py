"""All rows of a comparison timed in one run, each graph in its own process; an engine's rows interleaved."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeprune.base.machine import describe_machine
from edgeprune.base.statistics import Extremes, Latency, latency, ratio_by_round
from edgeprune.bundle import Bundle
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.evaluate.bench import FRAMES, bench_frames, mj_per_frame
from edgeprune.evaluate.timing import Entry, time_entries
from edgeprune.evaluate.worker import Job
from edgeprune.lab.compare.comparison import TimingRun
from edgeprune.lab.compare.plan import DENSE
from edgeprune.lab.compare.spec import Plan
from edgeprune.runtime.meters import open_meter


@dataclass(frozen=True)
class TimedRow:
    """What a run of a row's bundle takes on one engine; speed-ups are over the dense row of that precision and engine.

    Attributes:
        mj_per_frame: over all rounds; None without an energy sensor.
        peak_mb: of the process that was timed, resident; None where the machine doesn't say.
    """

    row: str
    precision: str
    engine: str
    latency_ms: Latency
    speedup_vs_dense: float
    speedup_spread: Extremes
    mj_per_frame: float | None
    peak_mb: float | None


def time_rows(plan: Plan, bundles: Mapping[str, Mapping[str, Bundle]]) -> tuple[TimingRun, list[TimedRow]]:
    """Times what a run of each bundle takes (`auto`; of a dense model its one graph), over the same frames.

    Args:
        bundles: of each row, by engine: a peer has other graphs in each.
    """
    target = next(iter(bundles[DENSE].values())).manifest.target
    meter = open_meter(target.power.meter, rails=target.power.rails, total_of=target.power.total)
    samples = open_split(load_data_set(plan.score.data), plan.score.split, plan.score.include, plan.score.exclude)
    entries: dict[tuple[str, str, str], Entry] = {}
    with tempfile.TemporaryDirectory(prefix="edgeprune-compare-") as folder:
        for name, engine, bundle in (
            (name, engine, bundle) for name, each in bundles.items() for engine, bundle in each.items()
        ):
            frames = Path(folder) / f"{bundle.manifest.height}x{bundle.manifest.width}.npy"
            if not frames.is_file():
                np.save(frames, bench_frames(bundle, samples, FRAMES)[1])
            manifest = Path(folder) / f"{name}-{engine}.json"
            manifest.write_text(bundle.manifest.model_dump_json())
            seen = {"bundle": str(bundle.folder), "manifest": str(manifest)}
            for precision in plan.precisions:
                gated = bool(bundle.manifest.graphs[precision].tails)
                kind, bucket = ("auto", "") if gated else ("bucket", bundle.manifest.buckets[-1].name)
                row = {"precision": precision, "bucket": bucket}
                job = Job(kind, engine, target.threads, str(frames), **seen, **row)
                entries[name, precision, engine] = Entry(name, bucket, job)
        for engine in dict.fromkeys(
            entry.job.engine for entry in entries.values()
        ):  # all at once would not fit in memory
            time_entries([entry for entry in entries.values() if entry.job.engine == engine], plan.rounds, meter)
    rows = []
    for (name, its_precision, engine), entry in entries.items():
        faster = ratio_by_round(entries[DENSE, its_precision, engine].rounds_ms, entry.rounds_ms)
        timed = TimedRow(
            row=name,
            precision=its_precision,
            engine=engine,
            latency_ms=latency(entry.rounds_ms),
            speedup_vs_dense=faster.median,
            speedup_spread=faster.extremes,
            mj_per_frame=mj_per_frame([each.total_j for each in entry.energies], sum(map(len, entry.rounds_ms))),
            peak_mb=entry.peak_mb,
        )
        rows.append(timed)
    energy_status = next(iter(entries.values())).energies[-1].status
    return TimingRun(plan.rounds, FRAMES, target.threads, describe_machine(), energy_status), rows
