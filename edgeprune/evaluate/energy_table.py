"""The graphs of a bundle whose energy is measured, the frames that they run on, and the table."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.machine import describe_machine
from edgeprune.bundle import Bundle
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.bench import FRAMES, bench_frames, list_entries, write_job
from edgeprune.evaluate.energy import Plan, measure_windows
from edgeprune.evaluate.energy_figures import EnergyFigures, Idle, figures_of
from edgeprune.evaluate.graphs import GraphSelection
from edgeprune.evaluate.timing import Entry, open_entries
from edgeprune.runtime.cameras import Wanted, open_source
from edgeprune.runtime.cameras.sampling import sample_frames
from edgeprune.runtime.meters import Meter

LIVE_S = 10.0  # over which the frames of a live camera are spread
# of `bench`'s rows those that a device would run; stem with head, and the trunk, are parts
MEASURED = ("dense", "trunk+tail", "single")


@dataclass(frozen=True)
class Frames:
    """What is run again and again: uint8 (F, H, W, 3) at the input size, and where it came from, without secrets."""

    source: str
    frames_FHW3: np.ndarray


@dataclass(frozen=True)
class EnergyRow:
    """One graph: `dense`, a bucket's name, or `auto`, the choice that a run makes in each frame."""

    bucket: str
    precision: str
    engine: str
    figures: EnergyFigures


@dataclass(frozen=True)
class EnergyResult:
    """The table, and what stands beside it.

    Attributes:
        status: by what was measured.
        total_of: the rails that are summed.
        rounds, window_s: windows of each graph, and how long each was to be.
        source: of the frames.
        frames: different ones.
        engine: `Session.describe()` of the first bucket.
        machine: `describe_machine()`, before anything ran.
    """

    status: str
    total_of: list[str]
    rounds: int
    window_s: float
    source: str
    frames: int
    threads: int
    idle: Idle
    engine: dict[str, Any]
    machine: dict[str, Any]
    rows: list[EnergyRow]


def frames_of_camera(bundle: Bundle, camera: str | None) -> Frames:
    """Frames of a camera, a recording or a folder, fitted and in memory before anything is measured; scenes of the synthetic
    street by default. At most FRAMES, spread evenly.

    Raises:
        InputError, RunError: as `open_source` and `sample_frames`.
    """
    if camera is None:
        return Frames(*bench_frames(bundle, None, FRAMES))
    manifest = bundle.manifest
    preprocess = Preprocess.of(manifest)
    source = open_source(camera, Wanted(within=(manifest.height, manifest.width), spread=FRAMES))
    fitted = [preprocess.fit(frame.image_HW3) for frame in sample_frames(source, FRAMES, LIVE_S, 1)]
    return Frames(f"{len(fitted)} frames of {source.uri}", np.stack(fitted))


def energy_entries(
    bundle: Bundle, frames_FHW3: np.ndarray, folder: Path, graphs: GraphSelection, engine: str
) -> list[Entry]:
    """Dense, and of each precision every bucket and `auto`; their files go to a folder."""
    job = write_job(bundle, frames_FHW3, folder, graphs.threads or bundle.manifest.target.threads)
    entries = list_entries(bundle, replace(job, engine=engine), graphs)
    return [entry for entry in entries if entry.graph in MEASURED]


def measure_energy(
    bundle: Bundle, meter: Meter, plan: Plan, frames: Frames, graphs: GraphSelection, engine: str | None = None
) -> EnergyResult:
    """Measures a bundle's graphs, each in a process of its own.

    Args:
        bundle: as this device runs it (`prepare_run`).
        graphs: their precisions, and the engine's threads.
        engine: a key of ENGINES; the target's by default.

    Raises:
        InputError, RunError: as `measure_windows` and `open_entries`.
    """
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="edgeprune-energy-") as folder:
        entries = energy_entries(
            bundle, frames.frames_FHW3, Path(folder), graphs, engine or bundle.manifest.target.engine
        )
        with open_entries(entries):
            idle, measured = measure_windows(entries, meter, plan)
    first = measured[0].energies[0]
    return EnergyResult(
        status=first.status,
        total_of=list(first.total_of),
        rounds=plan.rounds,
        window_s=plan.seconds,
        source=frames.source,
        frames=len(frames.frames_FHW3),
        threads=graphs.threads or bundle.manifest.target.threads,
        idle=idle,
        engine=next((each for each in entries if each.graph != "dense"), entries[0]).description,
        machine=machine,
        rows=[
            EnergyRow(entry.bucket or entry.graph, entry.job.precision, entry.job.engine, figures_of(each, idle))
            for entry, each in zip(entries, measured, strict=True)
        ],
    )
