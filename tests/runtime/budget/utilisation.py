"""How much of a budget is used, on simulated devices with fixed seeds.

    python -m tests.runtime.budget.utilisation

Every frame of a run asks for the same bucket; every larger bucket than the smallest is asked for at every budget. `used` is the
share of frames that got what they asked for, of those in which it would have been in time: an oracle's share is 100%. It is
given where a fixed bucket would do (it is in time in 99% of the frames that the smallest holds), and over all runs. WARM_UP
frames, in which scatter is learned, do not count for `used`; for `held` all do.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from edgeprune.base.table import render_table
from tests.runtime.budget.simulated import SHARED, SLOWDOWNS, TAILS_MS, TRUNK_MS, Device, Seen, bursts, governed, play

FRAMES = 900
WARM_UP = 100
SEEDS = (1, 2)
LIMITS_MS = [float(limit_ms) for limit_ms in np.geomspace(1.1 * (TRUNK_MS + TAILS_MS["k256"]), 75.0, 10)]
COLUMNS = {
    "machine": ("machine", ""),
    "runs": ("runs", ""),
    "held": ("held in %, least", ".1f"),
    "burst": ("over in a row", ""),
    "changes": ("changes, most", ""),
    "used_fixed": ("used %, where it holds", ".1f"),
    "least_fixed": ("least", ".1f"),
    "used": ("used %, all", ".1f"),
}


@dataclass(frozen=True)
class UsedRow:
    """The runs on one kind of machine; shares in hundredths.

    Attributes:
        held: the least of the runs.
        burst: the longest of them: frames in a row that were over though the smallest bucket would not have been.
        changes: of buckets in a run, the most.
        used_fixed, least_fixed: the mean and the least of those runs in which the bucket that is asked for would be in time
            in 99% of the frames that the smallest holds.
        used: the mean of all.
    """

    machine: str
    runs: int
    held: float
    burst: int
    changes: int
    used_fixed: float
    least_fixed: float
    used: float


def machines(seed: int) -> Mapping[str, Mapping[str, Any]]:
    """What a `Device` is made with."""
    quiet = {name: {"scatter": 0.02, "slowdown": slowdown} for name, slowdown in SLOWDOWNS.items()}
    return quiet | {"shared": {**SHARED}, "shared, bursts": {**SHARED, "slowdown": bursts(seed)}}


def always(bucket: str) -> Callable[[int], str]:
    """What every frame asks for."""
    return lambda index: bucket


def runs(machine: str) -> Iterator[tuple[float, Seen]]:
    """Every bucket at every budget, with every seed."""
    for seed in SEEDS:
        for limit_ms in LIMITS_MS:
            for asked in list(TAILS_MS)[1:]:
                device = Device(seed=seed, **machines(seed)[machine])
                yield limit_ms, play(device, governed(device, f"{limit_ms}ms"), FRAMES, always(asked))


def row_of(machine: str) -> UsedRow:
    """All runs of a machine."""
    seen = list(runs(machine))
    used = [(each.asked_holds(limit_ms) >= 0.99, each.got(limit_ms, WARM_UP)) for limit_ms, each in seen]
    fixed = [share for holds, share in used if holds and share is not None]
    return UsedRow(
        machine,
        len(seen),
        100 * min(each.held(limit_ms) for limit_ms, each in seen),
        max(each.longest_burst(limit_ms) for limit_ms, each in seen),
        max(each.changes() for _, each in seen),
        100 * fmean(fixed),
        100 * min(fixed),
        100 * fmean(share for _, share in used if share is not None),
    )


if __name__ == "__main__":
    print(render_table([row_of(machine) for machine in machines(0)], COLUMNS))
