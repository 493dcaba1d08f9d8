"""What is asked of our own engine: that it compiles, answers as the references do, how fast, and what it leaves behind.

Shapes: F frames, H W pixels.
"""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from edgeprune.base import statistics
from edgeprune.base.device import CACHE_VARIABLE
from edgeprune.base.errors import EdgepruneError, RunError
from edgeprune.base.files import make_folder
from edgeprune.bundle import read_references
from edgeprune.runtime.engines import ENGINES, Engine
from edgeprune.runtime.engines.trt_runtime import open_runtime
from edgeprune.runtime.first_hour.step import Found, Job
from edgeprune.runtime.first_hour.trtexec import built
from edgeprune.runtime.references import compare_with_references

WARM_UP, FRAMES, OPENINGS = 20, 200, 50
NO_REASON = "no reason given"  # what the engine says where TensorRT's log had none


def _engine(job: Job) -> Engine:
    return ENGINES[job.bundle.manifest.target.engine]


def _graphs(job: Job, precision: str, bucket: str) -> list[Path]:
    """The trunk and the bucket's tail."""
    found = job.bundle.graphs(precision)
    return [job.bundle.path(name) for name in (found.trunk, *([found.tails[bucket]] if found.tails else []))]


def _frames(job: Job) -> np.ndarray:
    return read_references(job.bundle)["frames"]


def compile_graphs(job: Job, graphs: Sequence[Path]) -> Found:
    """Each by itself. {graph: {`seconds`, `plan_mb`}}.

    Raises:
        RunError: one that TensorRT does not build; with the reason.
    """
    found: Found = {}
    for graph in graphs:
        begin = time.monotonic()
        failed = _engine(job).prepare([graph])
        plans = open_runtime().plans
        if not plans.has(graph):
            raise RunError(f"{graph.stem} is not compiled: {failed.get(graph, NO_REASON)}")
        found[graph.stem] = {
            "seconds": time.monotonic() - begin,
            "plan_mb": plans.path(graph).stat().st_size / 1e6,
        }
    return found


def compile_trunk(job: Job) -> Found:
    floating, _ = job.precisions()
    return compile_graphs(job, _graphs(job, floating, job.bucket())[:1])


def compile_bucket(job: Job) -> Found:
    floating, _ = job.precisions()
    return compile_graphs(job, _graphs(job, floating, job.bucket())[1:])


def compile_quantized(job: Job, precision: str) -> Found:
    return compile_graphs(job, _graphs(job, precision, job.bucket()))


def provoke_failure(job: Job) -> Found:
    """An operator that no TensorRT knows, made of one that it knows by a letter of its name: the file stays whole.

    Returns:
        {`message`, `reason`: whether it says more than that it failed}.
    """
    floating, _ = job.precisions()
    source = _graphs(job, floating, job.bucket())[0]
    folder = make_folder(job.folder / "provoked", "a graph that fails")
    for weights in source.parent.glob("*.weights"):
        shutil.copy(weights, folder)
    wrong = folder / source.name
    content = source.read_bytes()
    if b"Reshape" not in content:
        raise RunError(f"{source.name} has no Reshape to spoil; look at another graph")
    wrong.write_bytes(content.replace(b"Reshape", b"Reshapf"))
    try:
        failed = _engine(job).prepare([wrong])
    except EdgepruneError as error:
        message = str(error)
    else:
        if wrong not in failed:
            raise RunError(f"TensorRT built {wrong.name}, whose operator Reshapf does not exist")
        message = str(failed[wrong])
    return {"message": message, "reason": NO_REASON not in message and "Reshapf" in message}


def labels(job: Job, tf32: bool) -> Found:
    """Labels of one bucket, from engines that `trtexec` built with TF32 on or off, against the bundle's references.

    Returns:
        {precision: {`equal`: share, `differ`: labels of `of`}}.
    """
    os.environ[CACHE_VARIABLE] = str(job.folder / f"cache-tf32-{'on' if tf32 else 'off'}")
    bucket, found = job.bucket(), {}
    floating, quantizing = job.precisions()
    for precision in dict.fromkeys([floating, *quantizing]):
        for graph in _graphs(job, precision, bucket):
            plan = built(graph, job.folder / "trtexec", tf32)
            open_runtime().plans.store(graph, plan.read_bytes(), 0.0)
        found[precision] = _compare(job, precision, bucket)
    return found


def _compare(job: Job, precision: str, bucket: str) -> Found:
    with closing(_engine(job).open(job.bundle, precision, [bucket])) as session:
        found = compare_with_references(session, job.bundle, precision, [bucket])[bucket]
    return {"equal": found.share, "differ": found.of - found.equal, "of": found.of}


def _latency(times_ms: Sequence[float]) -> Found:
    found = statistics.latency([times_ms])
    return {"p50_ms": found.p50, "p95_ms": found.p95, "frames": len(times_ms)}


def latency(job: Job, precision: str, bucket: str) -> Found:
    """From the frame in hand to the labels in hand."""
    compile_graphs(job, _graphs(job, precision, bucket))
    frames_FHW3, times_ms = _frames(job), []
    with closing(_engine(job).open(job.bundle, precision, [bucket])) as session:
        for index in range(WARM_UP + FRAMES):
            begin = time.perf_counter()
            session.start(frames_FHW3[index % len(frames_FHW3)])
            session.finish(bucket)
            times_ms.append(1e3 * (time.perf_counter() - begin))
        return {"bucket": bucket, "precision": precision, **_latency(times_ms[WARM_UP:])}


def latency_of_dense(job: Job) -> Found:
    """From the frame in hand to the labels in hand, of the dense reference."""
    graph = job.bundle.path(job.bundle.manifest.dense)
    compile_graphs(job, [graph])
    frames_FHW3, times_ms = _frames(job), []
    with closing(_engine(job).open_graph(graph)) as run:
        for index in range(WARM_UP + FRAMES):
            begin = time.perf_counter()
            run(frames_FHW3[index % len(frames_FHW3)])
            times_ms.append(1e3 * (time.perf_counter() - begin))
    return {"graph": graph.stem, **_latency(times_ms[WARM_UP:])}


def _free_mb() -> float:
    """Memory that is left on the board; on a Jetson CPU and GPU share it."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RunError("/proc/meminfo has no MemAvailable")


def memory(job: Job) -> Found:
    """What is gone after a session was opened and closed many times: nothing, where closing gives everything back.

    Returns:
        {`openings`, `free_mb`: before the first and after each, `lost_mb_each`: a line through the second half}.
    """
    floating, _ = job.precisions()
    bucket = job.bucket()
    compile_graphs(job, _graphs(job, floating, bucket))
    frames_FHW3, free_mb = _frames(job), [_free_mb()]
    for _ in range(OPENINGS):
        with closing(_engine(job).open(job.bundle, floating, [bucket])) as session:
            session.start(frames_FHW3[0])
            session.finish(bucket)
        free_mb.append(_free_mb())
    # the first openings load libraries and kernels, which stay
    half = free_mb[len(free_mb) // 2 :]
    slope = float(np.polyfit(np.arange(len(half)), half, 1)[0])
    return {"openings": OPENINGS, "free_mb": [round(each, 1) for each in free_mb], "lost_mb_each": round(-slope, 3)}
