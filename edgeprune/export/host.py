"""Which of the engines installed here runs a bundle fastest: measured, and written into the bundle with the reason."""

import logging
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from edgeprune.base.errors import InputError, RunError, choose
from edgeprune.bundle import Bundle, EngineRow
from edgeprune.evaluate.bench import bench
from edgeprune.evaluate.graphs import AUTO, GraphSelection
from edgeprune.export.precision import MEASURE_AGAIN
from edgeprune.runtime.chance import Timed, scattered
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.references import agreement_of

logger = logging.getLogger(__name__)

ROUNDS, FRAMES = 3, 8


def choose_engine(bundle: Bundle, candidates: Sequence[str], least_agreement: float) -> tuple[str, list[EngineRow]]:
    """The engine whose `auto` is fastest in the default precision, of those that answer as the bundle's references do.

    Args:
        bundle: with its reference frames and labels.
        candidates: keys of ENGINES, in order of preference where times are equal.
        least_agreement: share of equal labels on the reference frames, every bucket together.

    Returns:
        its key, and a row per candidate.

    Raises:
        RunError: none of them can run the bundle.
    """
    agreement: dict[str, float | None] = {}
    unfit: dict[str, str] = {}  # why
    for name in candidates:
        choose(ENGINES, name, "engine")
        agreement[name] = share = None
        try:
            agreement[name] = share = reference_agreement(bundle, name, bundle.default_precision())
        except InputError as error:
            unfit[name] = str(error)
        if share is not None and share < least_agreement:
            unfit[name] = f"{share:.2%} equal labels on the reference frames, {least_agreement:.2%} expected"
    able = [name for name in candidates if name not in unfit]
    if not able:
        raise RunError(f"no engine can run the bundle: {'; '.join(unfit.values())}")
    timed = time_engines(bundle, able)
    if len(able) > 1 and (reason := scattered(timed)):
        logger.warning(f"{reason}: the engine may be chosen by chance; {MEASURE_AGAIN} when nothing else runs")
    times_ms = {each.what: each.ms for each in timed}
    best = min(able, key=lambda name: times_ms[name])
    rows = []
    for name in candidates:
        time_ms, reason = times_ms.get(name), unfit.get(name)
        if time_ms is not None:
            reason = "the fastest" if name == best else f"{time_ms / times_ms[best]:.2f}x its time"
        rows.append(
            EngineRow(engine=name, agreement=agreement[name], p50_ms=time_ms, chosen=name == best, reason=reason or "")
        )
        logger.info(f"{name}: {'' if time_ms is None else format(time_ms, '.1f') + ' ms, '}{reason}")
    return best, rows


def time_engines(bundle: Bundle, engines: Sequence[str]) -> list[Timed]:
    """Milliseconds of a frame in each engine: of `auto` in the default precision, or of the one graph there is."""
    precision = bundle.default_precision()
    graphs = GraphSelection(precisions=[precision])
    timed = bench(bundle, ROUNDS, open_meter("none"), graphs=graphs, engines=engines, frames=FRAMES).rows
    shown = AUTO if any(row.bucket == AUTO for row in timed) else bundle.manifest.buckets[-1].name
    rows = [row for row in timed if (row.bucket, row.precision) == (shown, precision)]
    return [Timed(row.engine, row.latency_ms.p50, row.spread_ms) for row in rows]


def reference_agreement(bundle: Bundle, engine: str, precision: str) -> float:
    """Share of labels equal to the bundle's references, over its frames and buckets.

    Raises:
        InputError: the engine isn't installed here, or can't read the graphs.
    """
    with closing(ENGINES[engine].open(bundle, precision, threads=bundle.manifest.target.threads)) as session:
        return float(np.mean(list(agreement_of(session, bundle, precision).values())))
