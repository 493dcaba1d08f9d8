"""What is asked of the board itself: what it has, its power modes, its camera, its power sensor."""

import re
import signal
import subprocess
import time
from contextlib import closing
from typing import IO

import numpy as np

from edgeprune.base.errors import EdgepruneError, RunError
from edgeprune.base.power_mode import current_mode, power_modes
from edgeprune.bundle import read_references
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.first_hour.attention import attention_graph
from edgeprune.runtime.first_hour.step import Found, Job, NotHere, Waits, run_verb
from edgeprune.runtime.first_hour.trtexec import TIMING, build, built, run_trtexec
from edgeprune.runtime.meters import NoSensor, open_meter

SECONDS = 10.0  # as long power is measured
CAMERA_FRAMES = 150


def doctor(job: Job) -> Found:
    return {finding.pop("what"): finding for finding in run_verb("doctor")["findings"]}


def one_token_more(job: Job) -> Found:
    """Attention of 512 tokens, and of 513: whether one over a tile costs a tile. No graph of a bundle has 513 rows, for buckets
    are multiples of eight (`export/family.py`): what that is worth is asked here."""
    found: Found = {}
    for tokens in (512, 513):
        graph = job.folder / f"attention-{tokens}.onnx"
        graph.write_bytes(attention_graph(tokens))
        found[str(tokens)] = build(graph, job.folder / "trtexec")
    times = [found[tokens].get("gpu_ms") for tokens in ("512", "513")]
    return found | {"quotient": times[1] / times[0] if all(times) else None}


def cuda_graph(job: Job) -> Found:
    """One bucket's engines with and without a CUDA graph: what launching kernels one by one costs."""
    floating, _ = job.precisions()
    graphs = job.bundle.graphs(floating)
    found: Found = {}
    for name in (graphs.trunk, *([graphs.tails[job.bucket()]] if graphs.tails else [])):
        graph = job.bundle.path(name)
        plan = built(graph, job.folder / "trtexec")
        for how, flags in (("plain", []), ("cuda_graph", ["--useCudaGraph"])):
            words = [f"--loadEngine={plan}", *flags, *TIMING]
            found[f"{graph.stem} {how}"] = run_trtexec(words, plan.parent / f"{graph.stem}.{how}.log")
    return found


def choose(job: Job) -> Found:
    """What `compile` makes of the whole bundle, and the power mode that it was measured in."""
    mode = current_mode()
    return {"power_mode": str(mode) if mode else None, **run_verb("compile", job.bundle.folder)}


def choose_again(job: Job) -> Found:
    """What `compile --again` makes of the bundle in another power mode: every engine timed anew, and other clocks must show.

    Raises:
        Waits: the power mode is still the one of before.
    """
    before, now = job.earlier.get("compile"), current_mode()
    if before is None:
        raise Waits("the step `compile` has not come to an end yet; it is tried again the next time")
    if now is None:
        raise NotHere("this machine has no power modes (nvpmodel -q does not answer)")
    if before["power_mode"] == str(now):
        others = [mode for mode in power_modes() if mode != now]
        how = f"sudo nvpmodel -m {others[0].number} sets {others[0].name}" if others else "sudo nvpmodel -m ANOTHER"
        raise Waits(f"the power mode is still {now}: {how}; then type the same command again, it goes on from here")
    again = run_verb("compile", job.bundle.folder, "--again")
    then = {(row["bucket"], row["precision"]): row["p50_ms"] for row in before["rows"]}
    rows = [
        {
            "bucket": row["bucket"],
            "precision": row["precision"],
            "before_ms": then.get((row["bucket"], row["precision"])),
            "now_ms": row["p50_ms"],
        }
        for row in again["rows"]
    ]
    return {"before": before["power_mode"], "now": str(now), "rows": rows}


def camera(job: Job) -> Found:
    """The CSI camera, scaled by nvvidconv and scaled by the CPU."""
    between = "&" if "?" in job.camera else "?"
    found: Found = {}
    for how, uri in (("scaled", job.camera), ("not_scaled", f"{job.camera}{between}scale=0")):
        summary = run_verb("run", "--bundle", job.bundle.folder, "--camera", uri, "--frames", CAMERA_FRAMES)
        keys = ("frames", "dropped", "fps", "latency_ms", "stages_ms")
        found[how] = {key: summary.get(key) for key in keys}
    return found


def _read_tegrastats(output: IO[str] | None) -> dict[str, float]:
    """Mean watts by rail, of lines as `... VDD_IN 5520mW/5400mW VDD_SOC 1200mW/1180mW`: now, and the mean since it began."""
    rails: dict[str, list[float]] = {}
    for line in output or ():
        for rail, milliwatts in re.findall(r"(\w+) (\d+)mW(?:/\d+mW)?", line):
            rails.setdefault(rail, []).append(int(milliwatts) / 1e3)
    return {rail: float(np.mean(watts)) for rail, watts in rails.items()}


def power(job: Job) -> Found:
    """Our meter beside `tegrastats`, while frames run where the engine can run them: both read the same sensors.

    Raises:
        NotHere: no INA3221, or no tegrastats.
    """
    try:
        meter = open_meter("ina3221")
        beside = subprocess.Popen(["tegrastats", "--interval", "200"], stdout=subprocess.PIPE, text=True)
    except NoSensor as error:
        raise NotHere(str(error)) from error
    except OSError as error:
        raise NotHere(f"tegrastats can't be run ({error.strerror}); it comes with Jetson Linux") from error
    with beside:
        meter.start()
        load = _load(job, SECONDS)
        energy = meter.stop()
        beside.send_signal(signal.SIGTERM)
        theirs = _read_tegrastats(beside.stdout)
    if not energy.joules:
        raise RunError(energy.status)
    if not theirs:
        raise RunError("tegrastats printed no rail")
    ours = {rail: joules / energy.seconds for rail, joules in energy.joules.items()}
    return {
        "load": load,
        "status": energy.status,
        "rails": {
            rail: {"ours_w": ours.get(rail), "tegrastats_w": theirs.get(rail)}
            for rail in dict.fromkeys([*ours, *theirs])
        },
    }


def _load(job: Job, seconds: float) -> str:
    """Runs frames for as long; where the engine can't, it is idle for as long. Says which."""
    floating, _ = job.precisions()
    bucket, begin = job.bucket(), time.monotonic()
    try:
        frame_HW3 = read_references(job.bundle)["frames"][0]
        with closing(ENGINES[job.bundle.manifest.target.engine].open(job.bundle, floating, [bucket])) as session:
            while time.monotonic() - begin < seconds:
                session.start(frame_HW3)
                session.finish(bucket)
        return f"frames, bucket {bucket} in {floating}"
    except EdgepruneError as error:
        time.sleep(max(0.0, begin + seconds - time.monotonic()))
        return f"idle: {error}"
