"""Which precision each bucket runs in on a device that compiles its graphs: the fastest there that still answers as the
bundle's reference frames do. What was chosen goes to the device's cache; the bundle never changes.

Shapes: F frames, H W pixels.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.bundle import MANIFEST, Bundle, mix
from edgeprune.device import cache_folder
from edgeprune.engines import Engine, Session
from edgeprune.errors import RunError
from edgeprune.evaluate.references import TRUNK, Row, agreement_of, chosen_of, hold_mixed
from edgeprune.files import make_folder, write_atomic

CHOICES = "device.json"
ROUNDS = 20


def graphs_of(bundle: Bundle) -> list[Path]:
    """Every graph that a session of the bundle may open, once."""
    graph_sets = bundle.manifest.graphs.values()
    names = [name for each in graph_sets for name in (each.trunk, *each.tails.values())]
    return [bundle.path(name) for name in dict.fromkeys(names)]


def single_graphs(bundle: Bundle) -> list[Path]:
    """Those that are timed beside the bundle's buckets: the dense reference, stem with head, where it has them."""
    return [bundle.path(name) for name in (bundle.manifest.dense, bundle.manifest.stem_head) if name]


def choose_on_device(bundle: Bundle, engine: Engine, say: Callable[[str], None]) -> list[Row]:
    """Compares and times every precision of every bucket, and keeps the choice in the cache.

    Args:
        bundle: its graphs prepared.

    Returns:
        rows of {`bucket` (`trunk` for the trunk), `precision`, `p50_ms` (of the bucket: trunk and tail of that precision),
        `agreement` (share of labels equal to the bundle's references), `chosen`}.

    Raises:
        RunError: no precision answers as the references do.
    """
    manifest = bundle.manifest
    with np.load(bundle.path(manifest.references)) as references:
        frames_FHW3 = references["frames"]
    with ExitStack() as stack:
        sessions = {
            precision: stack.enter_context(closing(engine.open(bundle, precision, threads=manifest.target.threads)))
            for precision in manifest.precisions
        }
        agreement = {
            (bucket, precision): share
            for precision, session in sessions.items()
            for bucket, share in agreement_of(session, bundle, precision).items()
        }
        times_ms = _time(sessions, [bucket.name for bucket in manifest.buckets], frames_FHW3)
    rows = _pick(bundle, agreement, times_ms)
    hold_mixed(bundle, engine, rows, say)
    for row in rows:
        if row["chosen"] and row["bucket"] != TRUNK:
            say(f"{row['bucket']}: {row['precision']}, {row['p50_ms']:.2f} ms, {row['agreement']:.2%} equal labels")
    _keep(bundle, rows)
    return rows


def _time(sessions: Mapping[str, Session], buckets: list[str], frames_FHW3: np.ndarray) -> dict[tuple[str, str], float]:
    """Median milliseconds by (bucket or trunk, precision), the precisions in turn."""
    times: dict[tuple[str, str], list[float]] = {}
    for index in range(ROUNDS):
        frame_HW3 = frames_FHW3[index % len(frames_FHW3)]
        for precision, session in sessions.items():
            for bucket in buckets:
                begin = time.perf_counter()
                session.start(frame_HW3)
                middle = time.perf_counter()
                session.finish(bucket)
                end = time.perf_counter()
                times.setdefault((TRUNK, precision), []).append(1e3 * (middle - begin))
                times.setdefault((bucket, precision), []).append(1e3 * (end - begin))
    return {key: float(np.median(values)) for key, values in times.items()}


def _pick(
    bundle: Bundle, agreement: Mapping[tuple[str, str], float], times_ms: Mapping[tuple[str, str], float]
) -> list[Row]:
    """The fastest precision of each bucket that agrees; the trunk's is the one that is fastest over all buckets."""
    manifest = bundle.manifest
    able: dict[str, list[str]] = {}
    for bucket in manifest.buckets:
        able[bucket.name] = [
            each
            for each in manifest.precisions
            if agreement[bucket.name, each] >= getattr(manifest.target.parity, each)
        ]
        if not able[bucket.name]:
            found = ", ".join(f"{each} {agreement[bucket.name, each]:.2%}" for each in manifest.precisions)
            raise RunError(
                f"bucket {bucket.name} does not answer as the bundle's references do: equal labels {found}; "
                "compile again, or build the bundle again and report both versions"
            )
    common = [each for each in manifest.precisions if all(each in names for names in able.values())]
    if not common:
        raise RunError(
            "no precision answers as the bundle's references do in every bucket, so none can have the trunk; compile again"
        )
    trunk = min(common, key=lambda each: sum(times_ms[name, each] for name in able))
    rows = [
        {
            "bucket": TRUNK,
            "precision": each,
            "p50_ms": times_ms[TRUNK, each],
            "agreement": None,
            "chosen": each == trunk,
        }
        for each in manifest.precisions
    ]
    for name, precisions in able.items():
        tail = min(precisions, key=lambda each: times_ms[name, each] - times_ms[TRUNK, each])
        rows += [
            {
                "bucket": name,
                "precision": each,
                "p50_ms": times_ms[name, each],
                "agreement": agreement[name, each],
                "chosen": each == tail,
            }
            for each in manifest.precisions
        ]
    return rows


def _key(bundle: Bundle) -> str:
    return hashlib.sha256((bundle.folder / MANIFEST).read_bytes()).hexdigest()[:16]


def _read() -> dict[str, Any]:
    try:
        content = json.loads((cache_folder() / CHOICES).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _keep(bundle: Bundle, rows: list[Row]) -> None:
    make_folder(cache_folder(), "the choice of precisions")
    with write_atomic(cache_folder() / CHOICES, "the choice of precisions") as partial:
        partial.write_text(json.dumps(_read() | {_key(bundle): rows}, indent=1))


def take_choice(bundle: Bundle) -> bool:
    """Lets a run take what this device chose for the bundle. False where it has not chosen yet."""
    rows = _read().get(_key(bundle))
    if not rows:
        return False
    bundle.manifest.run, mixed = mix(bundle.manifest.graphs, *chosen_of(rows))
    if mixed:
        bundle.manifest.graphs[bundle.manifest.run] = mixed
    return True
