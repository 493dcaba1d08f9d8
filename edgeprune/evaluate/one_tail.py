"""Buckets that share one engine against an engine each, on the device: time, agreement, and what the engines take."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.bundle import Bundle
from edgeprune.engines import Session
from edgeprune.engines.plans import read_profiles
from edgeprune.engines.tensorrt import TensorRt, open_runtime
from edgeprune.errors import InputError
from edgeprune.evaluate.references import agreement_of

ROUNDS = 20
ALL = "all"


def shared_tails(bundle: Bundle) -> dict[str, Path]:
    """By precision.

    Raises:
        InputError: the bundle has none.
    """
    if not bundle.manifest.one_tail:
        raise InputError(f"{bundle.folder} has no shared tail; build it with `edgeprune build --one-tail`")
    return {precision: bundle.path(path) for precision, path in bundle.manifest.one_tail.items()}


def measure_one_tail(
    bundle: Bundle, engine: TensorRt, say: Callable[[str], None], again: bool = False
) -> list[dict[str, Any]]:
    """Compiles the shared tails and times them against the buckets' own, in turn. `again`: also what is compiled already.

    Returns:
        rows of {`precision`, `bucket` (`all`: the plans of those that share), `own_ms`, `shared_ms` (tails alone, medians),
        `agreement` (of the shared one, with the bundle's references), `own_mb`, `shared_mb`}.

    Raises:
        InputError: the bundle has no shared tail.
    """
    rows: list[dict[str, Any]] = []
    for precision, graph in shared_tails(bundle).items():
        graphs = bundle.graphs(precision)
        engine.prepare([graph, *(bundle.path(each) for each in (graphs.trunk, *graphs.tails.values()))], say, again)
        buckets, plans = list(read_profiles(graph)), open_runtime().plans
        with (
            closing(engine.open(bundle, precision, threads=bundle.manifest.target.threads)) as own,
            closing(engine.open_one_tail(bundle, precision, bundle.manifest.target.threads)) as shared,
        ):
            agreement = agreement_of(shared, bundle, precision)
            times_ms = _time(bundle, {"own": own, "shared": shared}, buckets)
        mb = {bucket: plans.path(bundle.path(graphs.tails[bucket])).stat().st_size / 1e6 for bucket in buckets}
        rows += [
            {
                "precision": precision,
                "bucket": bucket,
                "own_ms": times_ms["own", bucket],
                "shared_ms": times_ms["shared", bucket],
                "agreement": agreement[bucket],
                "own_mb": mb[bucket],
                "shared_mb": None,
            }
            for bucket in buckets
        ]
        rows.append(
            {
                "precision": precision,
                "bucket": ALL,
                "own_ms": None,
                "shared_ms": None,
                "agreement": None,
                "own_mb": sum(mb.values()),
                "shared_mb": plans.path(graph).stat().st_size / 1e6,
            }
        )
    return rows


def _time(bundle: Bundle, sessions: Mapping[str, Session], buckets: list[str]) -> dict[tuple[str, str], float]:
    """Median milliseconds of a bucket's tail by (session, bucket), all of them in turn."""
    found: dict[tuple[str, str], list[float]] = {(name, bucket): [] for bucket in buckets for name in sessions}
    with np.load(bundle.path(bundle.manifest.references)) as references:
        frames_FHW3 = references["frames"]
    for index in range(ROUNDS):
        for session in sessions.values():
            session.start(frames_FHW3[index % len(frames_FHW3)])
        for (name, bucket), taken in found.items():
            begin = time.perf_counter()
            sessions[name].finish(bucket)
            taken.append(1e3 * (time.perf_counter() - begin))
    return {key: float(np.median(taken)) for key, taken in found.items()}
