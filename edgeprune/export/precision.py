"""Which precision each bucket runs in: the fastest on this machine that holds the target's accuracy limit.

INT8 is not faster everywhere: a CPU without integer dot products, or a bucket of few tokens, may run FP32 sooner. Trunk and
tails exchange float tensors, so their precisions are chosen one by one.
"""

from collections.abc import Callable, Sequence
from typing import Any

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import Bundle, GraphSet, Manifest, mix
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.evaluate.accuracy import AUTO, accuracy_of, evaluate
from edgeprune.evaluate.bench import bench
from edgeprune.quantize.calib import Calib
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.references import TRUNK, chosen_of, hold_mixed

ROUNDS, FRAMES, SCORED = 3, 8, 24


def choose_precisions(
    bundle: Bundle, calib: Calib | None, say: Callable[[str], None]
) -> tuple[str, GraphSet | None, list[dict[str, Any]]]:
    """Times every bucket in every precision, scores them on frames of the calibration's data, and chooses.

    Returns:
        the name of the graph set to run (a precision, or `mixed`), that set where it is `mixed`, and the table: see `pick`.
    """
    accuracy = _score(bundle, calib, say)
    timed = bench(bundle, ROUNDS, open_meter("none"), frames=FRAMES, accuracy=accuracy, say=say)["rows"]
    run, mixed, rows = pick(bundle.manifest, timed, accuracy)
    if mixed is None:
        return run, mixed, rows
    hold_mixed(bundle, choose(ENGINES, bundle.manifest.target.engine, "engine"), rows, say)
    return *mix(bundle.manifest.graphs, *chosen_of(rows)), rows


def _score(bundle: Bundle, calib: Calib | None, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows of `evaluate` on frames that the model was calibrated on, never on those that are reported; none without."""
    if calib is None:
        return []
    try:
        data_set = load_data_set(calib.data)
        samples = open_split(data_set, calib.split)
    except InputError:
        say(f"{calib.data} is not here: precisions are chosen by time among those that passed parity")
        return []
    rows: list[dict[str, Any]] = evaluate(bundle, samples, data_set, frames=SCORED, say=say)["rows"]
    return rows


def pick(
    manifest: Manifest, timed: Sequence[dict[str, Any]], accuracy: Sequence[dict[str, Any]]
) -> tuple[str, GraphSet | None, list[dict[str, Any]]]:
    """The choice from rows of `bench` and of `evaluate`.

    The loss of a precision is mIoU points under FP32 of the same bucket; unknown where FP32 or labels are missing, and
    then no reason against it.

    Returns:
        the name of the graph set, the set where it is `mixed`, and rows of {`bucket` (`trunk` for the trunk), `precision`,
        `p50_ms` (of the bucket: trunk and tail of that precision), `loss_points`, `chosen`}.
    """
    engine, limit = manifest.target.engine, manifest.target.accuracy_limit_points

    def time_of(graph: str | None, precision: str) -> float:
        for row in timed:
            key = row["bucket"] or row["graph"]
            if (key, row["precision"], row["engine"]) == (graph, precision, engine):
                return float(row["latency_ms"]["p50"])
        raise KeyError(f"{graph} {precision} was not timed")

    def loss_of(bucket: str, precision: str) -> float | None:
        best, own = (accuracy_of(accuracy, bucket, each, engine) for each in ("fp32", precision))
        return None if best is None or own is None else 100 * (best - own)

    def holds(bucket: str, precision: str) -> bool:
        loss = loss_of(bucket, precision)
        return precision == "fp32" or loss is None or loss <= limit

    gated = bool(manifest.graphs[manifest.precisions[0]].tails)
    whole = AUTO if gated else manifest.buckets[-1].name
    # the precision that every tail would share decides the trunk's
    trunk = min(
        (precision for precision in manifest.precisions if holds(whole, precision)),
        key=lambda precision: time_of(whole, precision),
    )
    if not gated:
        rows = [_row(whole, each, time_of(whole, each), loss_of(whole, each), trunk) for each in manifest.precisions]
        return trunk, None, rows
    rows = [_row(TRUNK, each, time_of(TRUNK, each), loss_of(AUTO, each), trunk) for each in manifest.precisions]
    tails: dict[str, str] = {}
    for bucket in manifest.buckets:
        able = [each for each in manifest.precisions if holds(bucket.name, each)]
        tails[bucket.name] = min(able, key=lambda each: time_of(bucket.name, each) - time_of(TRUNK, each))
        rows += [
            _row(bucket.name, each, time_of(bucket.name, each), loss_of(bucket.name, each), tails[bucket.name])
            for each in manifest.precisions
        ]
    return *mix(manifest.graphs, trunk, tails), rows


def _row(bucket: str, precision: str, p50_ms: float, loss_points: float | None, chosen: str) -> dict[str, Any]:
    return {
        "bucket": bucket,
        "precision": precision,
        "p50_ms": p50_ms,
        "loss_points": loss_points,
        "chosen": precision == chosen,
    }
