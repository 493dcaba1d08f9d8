"""Whether an engine answers as the bundle's reference frames do: what ONNX Runtime said of them when it was built."""

from collections.abc import Sequence

import numpy as np

from edgeprune.bundle import Bundle, read_references
from edgeprune.runtime.engines import Session


def agreement_of(
    session: Session, bundle: Bundle, precision: str, buckets: Sequence[str] | None = None
) -> dict[str, float]:
    """Share of labels equal to the references of a precision, by bucket (all by default), mean over the frames."""
    names = [bucket.name for bucket in bundle.manifest.buckets] if buckets is None else buckets
    equal: dict[str, list[float]] = {name: [] for name in names}
    references = read_references(bundle)
    for index, frame_HW3 in enumerate(references["frames"]):
        session.start(frame_HW3)
        for name, shares in equal.items():
            shares.append(float(np.mean(session.finish(name) == references[f"{precision}/{name}"][index])))
    return {name: float(np.mean(shares)) for name, shares in equal.items()}
