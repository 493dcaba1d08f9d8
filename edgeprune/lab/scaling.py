"""How latency and memory scale with the input size: `bench` over bundles of one model at several sizes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.evaluate.bench import BenchRow, bench
from edgeprune.evaluate.graphs import GraphSelection
from edgeprune.runtime.meters import Meter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputSize:
    """An input size, and the graph that was measured at it.

    Attributes:
        tokens: of the full grid.
        series: which graph it is at every size: the first bucket holds other counts on another grid.
    """

    height: int
    width: int
    tokens: int
    series: str


@dataclass(frozen=True)
class ScalingRow(BenchRow, InputSize):
    """A row of `bench` at an input size."""


@dataclass(frozen=True)
class Exponent:
    """How one graph scales between the two largest sizes: time and memory rise as a power of the tokens.

    Linear work gives 1, attention 2; a graph well over dense holds something that dense does not.

    Attributes:
        tokens: the two sizes, as `1024 to 4096`.
        latency: the exponent of the median latency.
        memory: that of peak memory; None where unknown.
    """

    series: str
    precision: str
    engine: str
    tokens: str
    latency: float
    memory: float | None


@dataclass(frozen=True)
class ScalingResult:
    """All sizes; `threads` to `machine` are those of the last."""

    threads: int
    rounds: int
    frames: int
    engines: dict[str, dict[str, Any]]
    machine: dict[str, Any]
    rows: list[ScalingRow]
    exponents: list[Exponent]


def refuse_one_size(bundles: Sequence[Bundle]) -> None:
    """Raises InputError where two bundles have one input size, or are one."""
    folders: dict[tuple[int, int], Path] = {}
    for bundle in bundles:
        height, width = size = (bundle.manifest.height, bundle.manifest.width)
        if size in folders:
            raise InputError(
                f"{folders[size]} and {bundle.folder} both take frames of {height}x{width}; give one bundle of each size"
            )
        folders[size] = bundle.folder


def measure_scaling(
    bundles: Sequence[Bundle],
    rounds: int,
    meter: Meter,
    *,
    engines: Sequence[str] | None = None,
    threads: int | None = None,
    frames: int = 4,
) -> ScalingResult:
    """Every graph of each bundle, timed.

    Args:
        bundles: of one model, a size each; at least one.
        threads: the target's by default.
        rounds, meter, engines, frames: as of `bench`.
    """
    rows: list[ScalingRow] = []
    for bundle in bundles:
        manifest = bundle.manifest
        logger.info(f"{manifest.height}x{manifest.width}: {manifest.tokens} tokens")
        result = bench(bundle, rounds, meter, GraphSelection(threads=threads), engines=engines, frames=frames)
        series = {bucket.name: f"bucket {number}" for number, bucket in enumerate(manifest.buckets[:-1], 1)}
        for row in result.rows:
            name = row.bucket or row.graph
            size = InputSize(manifest.height, manifest.width, manifest.tokens, series.get(name, name))
            rows.append(ScalingRow(**vars(size), **vars(row)))
    return ScalingResult(
        result.threads, result.rounds, result.frames, result.engines, result.machine, rows, exponents(rows)
    )


def exponents(rows: Sequence[ScalingRow]) -> list[Exponent]:
    """The exponent of every graph; one of a single size has none."""
    series: dict[tuple[str, str, str], dict[int, ScalingRow]] = {}
    for row in rows:
        series.setdefault((row.series, row.precision, row.engine), {})[row.tokens] = row
    found = []
    for key, by_tokens in series.items():
        if len(by_tokens) < 2:
            continue
        fewer, more = sorted(by_tokens)[-2:]
        small, large, ratio = by_tokens[fewer], by_tokens[more], log(more / fewer)
        latency = log(large.latency_ms.p50 / small.latency_ms.p50) / ratio
        memory = log(large.peak_mb / small.peak_mb) / ratio if small.peak_mb and large.peak_mb else None
        found.append(Exponent(*key, f"{fewer} to {more}", latency, memory))
    return found
