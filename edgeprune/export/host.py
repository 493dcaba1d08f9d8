"""Which of the engines installed here runs a bundle fastest: measured, and written into the bundle with the reason."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError, RunError, choose
from edgeprune.bundle import Bundle
from edgeprune.evaluate.accuracy import AUTO
from edgeprune.evaluate.bench import bench
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.references import agreement_of

ROUNDS, FRAMES = 3, 8


def choose_engine(
    bundle: Bundle, candidates: Sequence[str], least_agreement: float, say: Callable[[str], None]
) -> tuple[str, list[dict[str, Any]]]:
    """The engine whose `auto` is fastest in the default precision, of those that answer as the bundle's references do.

    Args:
        bundle: with its reference frames and labels.
        candidates: keys of ENGINES, in order of preference where times are equal.
        least_agreement: share of equal labels on the reference frames, every bucket together.

    Returns:
        its key, and a row per candidate: {`engine`, `agreement`, `p50_ms`, `chosen`, `reason`}.

    Raises:
        RunError: none of them can run the bundle.
    """
    precision = bundle.default_precision()
    rows: list[dict[str, Any]] = []
    for name in candidates:
        choose(ENGINES, name, "engine")
        row: dict[str, Any] = {"engine": name, "agreement": None, "p50_ms": None, "chosen": False, "reason": ""}
        rows.append(row)
        try:
            row["agreement"] = reference_agreement(bundle, name, precision)
        except InputError as error:
            row["reason"] = str(error)
            continue
        if row["agreement"] < least_agreement:
            row["reason"] = (
                f"{row['agreement']:.2%} equal labels on the reference frames, {least_agreement:.2%} expected"
            )
    able = [row["engine"] for row in rows if not row["reason"]]
    if not able:
        raise RunError(f"no engine can run the bundle: {'; '.join(row['reason'] for row in rows)}")
    timed = bench(bundle, ROUNDS, open_meter("none"), engines=able, frames=FRAMES, only=precision, say=say)["rows"]
    shown = AUTO if any(row["bucket"] == AUTO for row in timed) else bundle.manifest.buckets[-1].name
    for row in rows:
        for found in timed:
            if (found["engine"], found["bucket"], found["precision"]) == (row["engine"], shown, precision):
                row["p50_ms"] = found["latency_ms"]["p50"]
    best = min((row for row in rows if row["p50_ms"] is not None), key=lambda row: row["p50_ms"])
    best["chosen"] = True
    for row in rows:
        row["reason"] = row["reason"] or (
            "the fastest" if row is best else f"{row['p50_ms'] / best['p50_ms']:.2f}x its time"
        )
        say(
            f"{row['engine']}: {'' if row['p50_ms'] is None else format(row['p50_ms'], '.1f') + ' ms, '}{row['reason']}"
        )
    return best["engine"], rows


def reference_agreement(bundle: Bundle, engine: str, precision: str) -> float:
    """Share of labels equal to the bundle's references, over its frames and buckets.

    Raises:
        InputError: the engine isn't installed here, or can't read the graphs.
    """
    with closing(ENGINES[engine].open(bundle, precision, threads=bundle.manifest.target.threads)) as session:
        return float(np.mean(list(agreement_of(session, bundle, precision).values())))
