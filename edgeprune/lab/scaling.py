"""How latency and memory scale with the input size: `bench` over bundles of one model at several sizes."""

import logging
from collections.abc import Sequence
from math import log
from typing import Any

from edgeprune.bundle import Bundle
from edgeprune.evaluate.bench import bench
from edgeprune.runtime.meters import Meter

logger = logging.getLogger(__name__)


def scaling(
    bundles: Sequence[Bundle],
    rounds: int,
    meter: Meter,
    *,
    engines: Sequence[str] | None = None,
    threads: int | None = None,
    frames: int = 4,
) -> dict[str, Any]:
    """The rows of `bench` for each bundle, with `height`, `width`, `tokens` (of the full grid), and `series`: which graph it
    is at every size (the first bucket holds other counts on another grid).

    Args:
        bundles: of one model, a size each.
        rounds, meter, engines, threads, frames: see `bench`.

    Returns:
        `threads`, `rounds`, `frames`, `engines`, `machine` of the last size, `rows`, and `exponents`, see there.
    """
    rows: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    for bundle in bundles:
        manifest = bundle.manifest
        logger.info(f"{manifest.height}x{manifest.width}: {manifest.tokens} tokens")
        result = bench(bundle, rounds, meter, engines=engines, threads=threads, frames=frames, accuracy=[])
        size = {"height": manifest.height, "width": manifest.width, "tokens": manifest.tokens}
        names = [bucket.name for bucket in manifest.buckets[:-1]]
        for row in result["rows"]:
            name = row["bucket"] or row["graph"]
            rows.append(size | {"series": f"bucket {names.index(name) + 1}" if name in names else name} | row)
    about = {key: result[key] for key in ("threads", "rounds", "frames", "engines", "machine")}
    return about | {"rows": rows, "exponents": exponents(rows)}


def exponents(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How time and memory rise between the two largest sizes, per graph: the exponent of the tokens. Linear work gives 1,
    attention 2; a graph well over dense holds something that dense does not.

    Returns:
        rows of {`series`, `precision`, `engine`, `tokens`, `latency`, `memory`}; graphs of a single size are left out, and
        `memory` is None where unknown.
    """
    series: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for row in rows:
        key = (row["series"], row["precision"], row["engine"])
        series.setdefault(key, {})[row["tokens"]] = row
    found = []
    for (name, precision, engine), by_tokens in series.items():
        if len(by_tokens) < 2:
            continue
        fewer, more = sorted(by_tokens)[-2:]
        small, large, ratio = by_tokens[fewer], by_tokens[more], log(more / fewer)
        known = small["peak_mb"] and large["peak_mb"]
        found.append(
            {
                "series": name,
                "precision": precision,
                "engine": engine,
                "tokens": f"{fewer} to {more}",
                "latency": log(large["latency_ms"]["p50"] / small["latency_ms"]["p50"]) / ratio,
                "memory": log(large["peak_mb"] / small["peak_mb"]) / ratio if known else None,
            }
        )
    return found
