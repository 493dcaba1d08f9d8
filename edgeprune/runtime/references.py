"""Whether an engine answers as the bundle's reference frames do: what ONNX Runtime said of them when it was built."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from edgeprune.base.errors import RunError
from edgeprune.bundle import Bundle, mix, read_references
from edgeprune.runtime.engines import Engine, Session

TRUNK = "trunk"  # in a table of buckets
Row = dict[str, Any]


def agreement_of(
    session: Session, bundle: Bundle, precision: str | Mapping[str, str], buckets: Sequence[str] | None = None
) -> dict[str, float]:
    """Share of labels equal to the references of a precision (or of each bucket's), by bucket (all by default), mean over the
    frames."""
    names = [bucket.name for bucket in bundle.manifest.buckets] if buckets is None else buckets
    equal: dict[str, list[float]] = {name: [] for name in names}
    references = read_references(bundle)
    for index, frame_HW3 in enumerate(references["frames"]):
        session.start(frame_HW3)
        for name, shares in equal.items():
            own = precision if isinstance(precision, str) else precision[name]
            shares.append(float(np.mean(session.finish(name) == references[f"{own}/{name}"][index])))
    return {name: float(np.mean(shares)) for name, shares in equal.items()}


def chosen_of(rows: Sequence[Row]) -> tuple[str, dict[str, str]]:
    """Precision of the trunk, and of each bucket's tail, from rows of {`bucket` or `trunk`, `precision`, `chosen`}."""
    chosen = {row["bucket"]: row["precision"] for row in rows if row["chosen"]}
    return chosen.pop(TRUNK), chosen


def hold_mixed(bundle: Bundle, engine: Engine, rows: Sequence[Row], say: Callable[[str], None]) -> None:
    """Chooses the trunk's own precision for a tail that does not answer as its references do behind a trunk of another: each
    precision was compared whole, the mixture was not. Changes `chosen` of the rows (see `chosen_of`).

    Raises:
        RunError: the trunk's own precision is beyond the target's accuracy limit in that bucket (`loss_points`).
    """
    manifest = bundle.manifest
    trunk, tails = chosen_of(rows)
    name, mixed = mix(manifest.graphs, trunk, tails)
    if mixed is None:
        return
    manifest.graphs[name] = mixed
    agreement: dict[str, float] = {}
    try:
        for bucket, precision in tails.items():
            if precision != trunk:  # one at a time: a device may not hold them all
                with closing(engine.open(bundle, name, [bucket], threads=manifest.target.threads)) as session:
                    agreement[bucket] = agreement_of(session, bundle, precision, [bucket])[bucket]
    finally:
        del manifest.graphs[name]
    for bucket, share in agreement.items():
        precision = tails[bucket]
        least = min(getattr(manifest.target.parity, each) for each in (trunk, precision))
        if share >= least:
            continue
        own = next(row for row in rows if (row["bucket"], row["precision"]) == (bucket, trunk))
        if (own.get("loss_points") or 0) > manifest.target.accuracy_limit_points:
            raise RunError(
                f"{bucket}: {precision} behind a trunk in {trunk} gives {share:.2%} of the reference's labels, and "
                f"{trunk} itself loses {own['loss_points']:.2f} points; build with one --precision"
            )
        say(
            f"{bucket}: {precision} behind a trunk in {trunk} gives {share:.2%} equal labels, at least "
            f"{least:.2%} expected; {trunk} is taken"
        )
        for row in rows:
            if row["bucket"] == bucket:
                row["chosen"] = row["precision"] == trunk
