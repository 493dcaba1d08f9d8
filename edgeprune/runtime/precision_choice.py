"""In which precision the trunk and each bucket's tail run.

Trunk and tails exchange float tensors, so each runs in the precision that is fastest for it. What is chosen from is measured
where the graphs will run: by `build` on a workstation (`export/precision.py`), by `compile` on a device (`compiling.py`).
Both choose here, once, and nothing changes a choice later.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from edgeprune.base.errors import RunError
from edgeprune.bundle import MIXED, Bundle, GraphSet
from edgeprune.runtime.chance import Timed, out_of_order, scattered
from edgeprune.runtime.engines import Engine
from edgeprune.runtime.references import agreement_of

logger = logging.getLogger(__name__)

TRUNK = "trunk"  # among buckets


@dataclass(frozen=True)
class Measured:
    """One precision of one bucket, or of the trunk.

    Attributes:
        bucket: its name, or `TRUNK`.
        precision: a key of PRECISIONS.
        p50_ms: of the bucket, trunk and tail both in this precision; None where it could not be compiled.
        loss_points: mIoU points under FP32 of the same bucket; None where no labels are at hand.
        agreement: share of labels equal to the bundle's references, where a device compared them.
        typing: how its graph was compiled, where it was.
        spread_ms: how far the timings lie apart: medians of rounds in a build, quartiles on a device.
    """

    bucket: str
    precision: str
    p50_ms: float | None
    loss_points: float | None = None
    agreement: float | None = None
    typing: str | None = None
    spread_ms: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The precisions that a run takes.

    Attributes:
        trunk: the trunk's.
        tails: each bucket's.
        measured: what they were chosen from.
        dropped: buckets that no run takes, and why.
    """

    trunk: str
    tails: Mapping[str, str]
    measured: Sequence[Measured]
    dropped: Mapping[str, str] = field(default_factory=dict)

    @property
    def run(self) -> str:
        """The name of the graph set that a run takes: the precision of all, or `mixed`."""
        return self.trunk if set(self.tails.values()) <= {self.trunk} else MIXED

    def graphs(self, built: Mapping[str, GraphSet]) -> dict[str, GraphSet]:
        """The graph sets that were built, by precision, and `mixed` where the choice is none of them."""
        if self.run != MIXED:
            return dict(built)
        tails = {bucket: built[precision].tails[bucket] for bucket, precision in self.tails.items()}
        return {**built, MIXED: GraphSet(trunk=built[self.trunk].trunk, tails=tails)}

    def is_chosen(self, bucket: str, precision: str) -> bool:
        """Whether a run takes this precision of the bucket, or of the trunk."""
        return (self.trunk if bucket == TRUNK else self.tails.get(bucket)) == precision

    def rows(self, *columns: str) -> list[dict[str, Any]]:
        """The table of what was measured: `bucket`, `precision`, `p50_ms`, `columns` (attributes of `Measured`), `chosen`."""
        return [
            {column: getattr(each, column) for column in ("bucket", "precision", "p50_ms", *columns)}
            | {"chosen": self.is_chosen(each.bucket, each.precision)}
            for each in self.measured
        ]


def fastest(measured: Sequence[Measured], able: Mapping[str, Sequence[str]], trunk: str) -> Choice:
    """Each bucket's tail in the precision in which it is fastest.

    Args:
        measured: of every precision in `able`, and of the trunk in each of them where it was timed alone.
        able: the precisions that each bucket may take; at least one.
        trunk: the trunk's precision.
    """
    times_ms = {(each.bucket, each.precision): each.p50_ms or 0.0 for each in measured}

    def tail_ms(bucket: str, precision: str) -> float:
        return times_ms[bucket, precision] - times_ms.get((TRUNK, precision), 0.0)

    tails = {
        bucket: min(precisions, key=lambda precision: tail_ms(bucket, precision)) for bucket, precisions in able.items()
    }
    return Choice(trunk, tails, tuple(measured))


def say_chance(measured: Sequence[Measured], again: str) -> None:
    """Says in a line where timings scatter, or a larger bucket was faster than a smaller one.

    Args:
        measured: the smallest bucket first.
        again: what to type to measure again.
    """
    by_precision: dict[str, list[Timed]] = {}
    for each in measured:
        if each.bucket != TRUNK and each.p50_ms is not None:
            timed = Timed(f"{each.bucket} in {each.precision}", each.p50_ms, each.spread_ms)
            by_precision.setdefault(each.precision, []).append(timed)
    for timings in by_precision.values():
        if reason := scattered(timings) or out_of_order(timings):
            logger.warning(f"{reason}: precisions may be chosen by chance; {again} when nothing else runs")
            return


def revert_failing_tails(bundle: Bundle, engine: Engine, choice: Choice) -> Choice:
    """Gives the trunk's own precision to tails that do not answer as their references do behind a trunk of another.

    Each precision was compared whole, the mixture was not.

    Raises:
        RunError: the trunk's own precision is beyond the target's accuracy limit in that bucket.
    """
    target, trunk = bundle.manifest.target, choice.trunk
    reverted = dict(choice.tails)
    for bucket, share in _mixed_agreement(bundle, engine, choice).items():
        precision = choice.tails[bucket]
        least = min(target.parity.least(each) for each in (trunk, precision))
        if share >= least:
            continue
        losses = (each.loss_points for each in choice.measured if (each.bucket, each.precision) == (bucket, trunk))
        loss = next(losses, None)
        if loss is not None and loss > target.accuracy_limit_points:
            raise RunError(
                f"{bucket}: {precision} behind a trunk in {trunk} gives {share:.2%} of the reference's labels, and "
                f"{trunk} itself loses {loss:.2f} points; build with one --precision"
            )
        logger.warning(
            f"{bucket}: {precision} behind a trunk in {trunk} gives {share:.2%} equal labels, at least "
            f"{least:.2%} expected; {trunk} is taken"
        )
        reverted[bucket] = trunk
    return replace(choice, tails=reverted)


def _mixed_agreement(bundle: Bundle, engine: Engine, choice: Choice) -> dict[str, float]:
    """Share of labels equal to the references, of each tail behind a trunk of another precision."""
    agreement = {}
    mixed = bundle.seen_with(graphs=choice.graphs(bundle.manifest.graphs))
    for bucket, precision in choice.tails.items():
        if precision != choice.trunk:  # one at a time: a device may not hold them all
            with closing(engine.open(mixed, MIXED, [bucket], threads=bundle.manifest.target.threads)) as session:
                agreement[bucket] = agreement_of(session, bundle, precision, [bucket])[bucket]
    return agreement
