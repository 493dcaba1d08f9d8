"""How far a run kept its budget, from its rows alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeprune.base.statistics import percentiles
from edgeprune.runtime.budget.wanted import Budget
from edgeprune.runtime.row import Ledger

RATE_FRAMES = 30  # over whose mean a rate, a power and an energy are judged


@dataclass(frozen=True)
class BudgetFigures:
    """A budget and what became of it.

    Attributes:
        budget: as it is typed.
        held: by the units of the budget, the share of the judged frames that were within; None where there is none.
        judged: by unit, how many frames: without a reading of the meter nobody knows.
        p95: of the quantity that each limits, by its unit.
        longest_over: by unit, the most frames in a row that were over.
        capped: share of frames that asked for a larger bucket than they got.
    """

    budget: str
    held: dict[str, float | None]
    judged: dict[str, int]
    p95: dict[str, float | None]
    longest_over: dict[str, int]
    capped: float | None


def budget_figures(budget: Budget, rows: Ledger) -> BudgetFigures:
    """Judges the latency of each frame; of the others the mean of RATE_FRAMES frames, as they are budgets of a mean."""
    interval_ms = np.diff(rows.ns("start_ns"), append=rows.ns("end_ns")[-1:]) / 1e6
    busy_ms = interval_ms - np.append(rows.ms("wait_ms")[1:], 0.0)[: len(interval_ms)]
    watts = rows.watts()
    judged = {
        "ms": (rows.ms("latency_ms"), budget.latency_ms),
        "fps": (_mean(busy_ms), None if budget.fps is None else 1000 / budget.fps),
        "W": (_mean(watts), budget.power_w),
        "mJ": (_mean(watts) * _mean(interval_ms), budget.energy_mj),
    }
    held: dict[str, float | None] = {}
    count: dict[str, int] = {}
    p95: dict[str, float | None] = {}
    longest: dict[str, int] = {}
    for unit, (values, limit) in judged.items():
        known = values[~np.isnan(values)]
        if limit is None:
            continue
        count[unit] = len(known)
        held[unit] = float((known <= limit).mean()) if len(known) else None
        worst = percentiles(known).p95
        p95[unit] = 1000 / worst if unit == "fps" and worst else worst
        longest[unit] = longest_run(values > limit)
    capped = float(rows.capped().mean()) if len(rows) else None
    return BudgetFigures(str(budget), held, count, p95, longest, capped)


def _mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of each frame and those before it, up to RATE_FRAMES; NaN where one of them has no value."""
    sums = np.cumsum(np.insert(np.nan_to_num(values), 0, 0.0))
    missing = np.cumsum(np.insert(np.isnan(values), 0, False))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - RATE_FRAMES, 0)
    return np.where(missing[ends] > missing[begins], np.nan, (sums[ends] - sums[begins]) / (ends - begins))


def longest_run(over: npt.NDArray[np.bool_]) -> int:
    """The most in a row that are true."""
    longest = run = 0
    for each in over:
        run = run + 1 if each else 0
        longest = max(longest, run)
    return longest
