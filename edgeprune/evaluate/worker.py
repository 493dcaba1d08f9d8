"""A process that times one graph on request: `python -m edgeprune.evaluate.worker JOB`, JOB in JSON.

Reads lines from standard input and answers each with a line of JSON on standard output; ends at the end of its input.
Between requests it waits in a read: no thread of it spins beside the graph that is being timed.

    (start)  -> {"ready": description of the engine}  or  {"error": one line}
    round    -> {"round": fields of `Round`}  or  {"error": one line}
    window S -> {"window": fields of `Window`}, S seconds later, or an error
"""

import json
import os
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import EdgepruneError, choose
from edgeprune.base.machine import peak_mb
from edgeprune.base.statistics import Latency, latency
from edgeprune.base.table import plain
from edgeprune.bundle import Bundle, Manifest
from edgeprune.runtime.choose import in_frame
from edgeprune.runtime.engines import ENGINES

REMEMBERED = "remembered"
# frame -> the bucket that was run, or None
Timed = Callable[[np.ndarray], "str | None"]


@dataclass(frozen=True)
class Job:
    """What a worker opens.

    Attributes:
        kind: `bucket`, `auto`, `trunk`, REMEMBERED (a bucket of the bundle's memory), or `graph` (a single graph).
        engine: a key of ENGINES.
        threads: of the engine.
        frames: an .npy file of uint8 (F, H, W, 3).
        bundle: its folder; for a bucket, `auto` or the trunk.
        manifest: the file of its manifest, as the process that asks for times sees it. That one has verified it, or is
            building it, or runs it as its device chose to.
        precision: likewise.
        bucket: for `bucket` and REMEMBERED.
        graph: path of a single graph.
    """

    kind: str
    engine: str
    threads: int
    frames: str
    bundle: str = ""
    manifest: str = ""
    precision: str = "fp32"
    bucket: str = ""
    graph: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def open_job(job: Job) -> tuple[Timed, dict[str, Any]]:
    """What is timed, opened and warmed up, and the description of its engine.

    Raises:
        InputError: as the engine's `open`.
    """
    engine = choose(ENGINES, job.engine, "engine")
    if job.kind == "graph":
        graph = engine.open_graph(Path(job.graph), job.threads)

        def whole(frame_HW3: np.ndarray) -> None:
            graph(frame_HW3)

        return whole, graph.describe()
    bundle = Bundle(Path(job.bundle), Manifest.model_validate_json(Path(job.manifest).read_bytes()))
    if job.kind == REMEMBERED:
        bundle = bundle.with_memory()
    able, lines = engine.able(bundle, job.precision) if job.kind == "auto" else ([], [])
    for line in lines:
        print(line, file=sys.stderr)
    smallest = next(iter(bundle.graphs(job.precision).tails), bundle.manifest.buckets[0].name)
    buckets = {"bucket": [job.bucket], "auto": able, "trunk": [smallest], REMEMBERED: [job.bucket]}[job.kind]
    session = engine.open(bundle, job.precision, buckets, job.threads)
    if job.kind == REMEMBERED:  # there is a frame to remember
        session.start(np.zeros((bundle.manifest.height, bundle.manifest.width, 3), np.uint8))
        session.finish(job.bucket)
    chooser = in_frame([bucket for bucket in bundle.manifest.buckets if bucket.name in buckets])

    def fixed(frame_HW3: np.ndarray) -> str:
        session.start(frame_HW3)
        session.finish(job.bucket)
        return job.bucket

    def auto(frame_HW3: np.ndarray) -> str:
        bucket = chooser(session.start(frame_HW3))
        session.finish(bucket)
        return bucket

    def trunk(frame_HW3: np.ndarray) -> None:
        session.start(frame_HW3)

    timed: dict[str, Timed] = {"bucket": fixed, "auto": auto, "trunk": trunk, REMEMBERED: fixed}
    return timed[job.kind], session.describe()


@dataclass(frozen=True)
class Round:
    """One pass over the frames.

    Attributes:
        ms: of each frame, in order.
        buckets: how many frames each bucket had.
        peak_mb: of the process until now, resident.
    """

    ms: list[float]
    buckets: dict[str, int]
    peak_mb: float | None


def time_round(timed: Timed, frames_FHW3: np.ndarray) -> Round:
    """Times every frame once."""
    times_ms: list[float] = []
    buckets: dict[str, int] = {}
    for frame_HW3 in frames_FHW3:
        start_ns = time.perf_counter_ns()
        bucket = timed(frame_HW3)
        times_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
        if bucket is not None:
            buckets[bucket] = buckets.get(bucket, 0) + 1
    return Round(times_ms, buckets, peak_mb())


@dataclass(frozen=True)
class Window:
    """The frames again and again, one after the other, for so long.

    Attributes:
        frames: that were run, at least one.
        seconds: from the first one's start to the last one's end.
        latency_ms: of a frame.
        buckets, peak_mb: as of `Round`.
    """

    frames: int
    seconds: float
    latency_ms: Latency
    buckets: dict[str, int]
    peak_mb: float | None


def time_window(timed: Timed, frames_FHW3: np.ndarray, seconds: float) -> Window:
    """Runs frames until `seconds` have passed; the last one ends behind that. A time takes eight bytes."""
    times_ms = array("d")
    buckets: dict[str, int] = {}
    begin_ns = end_ns = time.perf_counter_ns()
    until_ns = begin_ns + seconds * 1e9
    for frame_HW3 in cycle(frames_FHW3):
        start_ns = time.perf_counter_ns()
        bucket = timed(frame_HW3)
        end_ns = time.perf_counter_ns()
        times_ms.append((end_ns - start_ns) / 1e6)
        if bucket is not None:
            buckets[bucket] = buckets.get(bucket, 0) + 1
        if end_ns >= until_ns:
            break
    return Window(len(times_ms), (end_ns - begin_ns) / 1e9, latency([times_ms]), buckets, peak_mb())


def answer_request(request: str, timed: Timed, frames_FHW3: np.ndarray) -> dict[str, Any]:
    """What a line of the input asks for."""
    what, _, seconds = request.strip().partition(" ")
    if what == "window":
        return {"window": plain(time_window(timed, frames_FHW3, float(seconds)))}
    return {"round": plain(time_round(timed, frames_FHW3))}


def main(job_json: str) -> None:
    """Opens the job, then answers requests until the input ends."""

    def answer(content: dict[str, Any]) -> None:
        try:
            print(json.dumps(content), flush=True)
        except BrokenPipeError:  # who asked was killed: nobody is there to be told
            os._exit(0)

    try:
        job = Job(**json.loads(job_json))
        timed, description = open_job(job)
        frames_FHW3 = np.load(job.frames)
    except EdgepruneError as error:
        answer({"error": str(error)})
        return
    answer({"ready": description})
    for request in sys.stdin:
        try:
            answer(answer_request(request, timed, frames_FHW3))
        except EdgepruneError as error:  # a graph of another input size
            answer({"error": str(error)})


if __name__ == "__main__":
    main(sys.argv[1])
