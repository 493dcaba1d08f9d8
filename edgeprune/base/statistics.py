"""Figures of many values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Percentiles:
    """50th, 95th and 99th percentile, in the unit of the values; None of no values."""

    p50: float | None
    p95: float | None
    p99: float | None


def percentiles(values: Sequence[float] | npt.NDArray[np.float64]) -> Percentiles:
    """Percentiles of the values, linear between neighbours."""
    if not len(values):
        return Percentiles(None, None, None)
    return Percentiles(*np.percentile(values, [50, 95, 99]).tolist())
