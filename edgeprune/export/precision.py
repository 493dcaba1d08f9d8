"""Which precision each bucket runs in: the fastest on this machine that holds the target's accuracy limit.

INT8 is not faster everywhere: a CPU without integer dot products, or a bucket of few tokens, may run FP32 sooner. Trunk and
tails exchange float tensors, so their precisions are chosen one by one.
"""

import logging
from collections.abc import Sequence

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import Bundle, Manifest
from edgeprune.data.datasets import load_data_set
from edgeprune.evaluate.accuracy import AccuracyRow, accuracy_of, evaluate, open_scored
from edgeprune.evaluate.bench import BenchRow, bench
from edgeprune.evaluate.graphs import AUTO
from edgeprune.quantize.calib import Calib
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.precision_choice import TRUNK, Choice, Measured, fastest, revert_failing_tails, say_chance

logger = logging.getLogger(__name__)

ROUNDS, FRAMES, SCORED = 3, 8, 24
MEASURE_AGAIN = "type the same `edgeprune build` again"


def choose_precisions(bundle: Bundle, calib: Calib | None) -> Choice:
    """Times every bucket in every precision, scores them on frames of the calibration's data, and chooses.

    Args:
        bundle: its graphs and references in their files.

    Raises:
        RunError: a tail answers behind no trunk that holds the accuracy limit.
    """
    accuracy = _score(bundle, calib)
    timed = bench(bundle, ROUNDS, open_meter("none"), frames=FRAMES).rows
    engine = choose(ENGINES, bundle.manifest.target.engine, "engine")
    choice = pick(bundle.manifest, timed, accuracy)
    say_chance(choice.measured, MEASURE_AGAIN)
    return revert_failing_tails(bundle, engine, choice)


def _score(bundle: Bundle, calib: Calib | None) -> list[AccuracyRow]:
    """Rows of `evaluate` on frames that the model was calibrated on, never on those that are reported; none without."""
    if calib is None:
        return []
    if calib.split is None:
        logger.warning(
            f"frames of {calib.data} have no labels: precisions are chosen by time among those that passed parity"
        )
        return []
    try:
        data_set = load_data_set(calib.data)
        samples = open_scored(bundle.manifest.task, data_set, calib.split)
    except InputError as error:
        logger.warning(
            f"{calib.data} can't be scored here ({error}): precisions are chosen by time among those that passed parity"
        )
        return []
    return evaluate(bundle, samples, data_set, frames=SCORED).rows


def pick(manifest: Manifest, timed: Sequence[BenchRow], accuracy: Sequence[AccuracyRow]) -> Choice:
    """The fastest precisions that hold the target's accuracy limit. The one that every tail would share decides the trunk's.

    The loss of a precision is points under FP32 of the same bucket, by the figure of the task's metric; unknown where FP32 or
    labels are missing, and then no reason against it.

    Args:
        timed: rows of `bench`.
        accuracy: rows of `evaluate`.
    """
    engine, precisions = manifest.target.engine, manifest.precisions
    names = [bucket.name for bucket in manifest.buckets]

    rows = {(row.bucket or row.graph, row.precision): row for row in timed if row.engine == engine}

    def time_of(graph: str, precision: str) -> float:
        return rows[graph, precision].latency_ms.p50

    def loss_of(bucket: str, precision: str) -> float | None:
        best, own = (accuracy_of(accuracy, bucket, each, engine) for each in ("fp32", precision))
        return None if best is None or own is None else 100 * (best - own)

    def able(bucket: str) -> list[str]:
        losses = {each: loss_of(bucket, each) or 0.0 for each in precisions}
        return [each for each in precisions if each == "fp32" or losses[each] <= manifest.target.accuracy_limit_points]

    gated = bool(manifest.graphs[precisions[0]].tails)
    whole = AUTO if gated else names[-1]
    trunk = min(able(whole), key=lambda precision: time_of(whole, precision))
    shown = {TRUNK: AUTO} if gated else {}  # whose labels are the trunk's: those of a run
    shown |= {name: name for name in names}
    measured = [
        Measured(
            name,
            precision,
            time_of(name, precision),
            loss_points=loss_of(scored, precision),
            spread_ms=rows[name, precision].spread_ms,
        )
        for name, scored in shown.items()
        for precision in precisions
    ]
    return fastest(measured, {name: able(name) for name in names}, trunk)
