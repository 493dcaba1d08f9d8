"""Whether an engine answers as the bundle's reference frames do: what ONNX Runtime said of them when it was built."""

import numpy as np

from edgeprune.bundle import Bundle
from edgeprune.engines import Session


def agreement_of(session: Session, bundle: Bundle, precision: str) -> dict[str, float]:
    """Share of labels equal to the references of a precision, by bucket, mean over the frames."""
    equal: dict[str, list[float]] = {bucket.name: [] for bucket in bundle.manifest.buckets}
    with np.load(bundle.path(bundle.manifest.references)) as references:
        for index, frame_HW3 in enumerate(references["frames"]):
            session.start(frame_HW3)
            for name, shares in equal.items():
                expected_HW = references[f"{precision}/{name}"][index]
                shares.append(float(np.mean(session.finish(name) == expected_HW)))
    return {name: float(np.mean(shares)) for name, shares in equal.items()}
