"""Runners timed side by side in one process, in interleaved rounds, on the same frames.

Shapes: H W pixels of the frame.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from edgeprune.base.statistics import latency, ratio_by_round
from edgeprune.base.table import plain
from edgeprune.evaluate.bench import mj_per_frame
from edgeprune.lab.in_torch.runners import WARM_UP
from edgeprune.runtime.meters import Energy, Meter, measure_idle

logger = logging.getLogger(__name__)

IDLE_S = 3.0
MEASURED = {  # columns: which graph, and what `time_in_rounds` measures of it
    "graph": ("graph", ""),
    "mode": ("mode", ""),
    "token_share": ("of dense", ".0%"),
    "latency_ms.p50": ("p50 ms", ".2f"),
    "latency_ms.p95": ("p95 ms", ".2f"),
    "speedup_vs_dense": ("x dense", ".2f"),
    "mj_per_frame": ("mJ/frame", ".1f"),
    "mj_above_idle": ("above idle", ".1f"),
}


@dataclass(frozen=True)
class Rounds:
    """How long is measured.

    Attributes:
        count: of rounds over all runners.
        frames: different ones, of a round.
        seconds: a round of each runner lasts at least so long; NVML renews its power value every 20 to 100 ms.
    """

    count: int
    frames: int
    seconds: float


@dataclass
class Timed:
    """A runner, what a row says of it, and what was measured: milliseconds by round and frame, energy by round."""

    about: dict[str, Any]
    run: Callable[[Tensor], list[Tensor]]
    rounds_ms: list[list[float]] = field(default_factory=list)
    energies: list[Energy] = field(default_factory=list)

    def time_round(self, frames: Sequence[Tensor], seconds: float, meter: Meter) -> None:
        """Frames (H, W, 3) one after the other for `seconds`, all of them at least once."""
        taken: list[float] = []
        for index in range(WARM_UP):
            self.run(frames[index % len(frames)])
        meter.start()
        begin = time.perf_counter()
        while len(taken) < len(frames) or time.perf_counter() - begin < seconds:
            before = time.perf_counter()
            self.run(frames[len(taken) % len(frames)])
            taken.append(1e3 * (time.perf_counter() - before))
        self.energies.append(meter.stop())
        self.rounds_ms.append(taken)


def time_in_rounds(
    timed: Sequence[Timed], frames: Sequence[Tensor], rounds: Rounds, meter: Meter, name: str
) -> list[dict[str, Any]]:
    """Times all runners, each round beginning with another one.

    Args:
        timed: the first is what the others are held against.
        name: of what is timed, for the log.

    Returns:
        a row for each: what it says of itself, and `latency_ms` {p50, p95}, `speedup_vs_dense` (by round), `speedup_spread`,
        `mj_per_frame`, `mj_above_idle`, `energy_status`. Energies are None without a sensor.
    """
    idle_w = measure_idle(meter, IDLE_S).rails_w
    for number in range(rounds.count):
        first = number % len(timed)
        for each in (*timed[first:], *timed[:first]):
            each.time_round(frames, rounds.seconds, meter)
        logger.info(f"{name}: round {number + 1} of {rounds.count}")
    return [each.about | measured(each, timed[0], idle_w) for each in timed]


def measured(each: Timed, dense: Timed, idle_w: Mapping[str, float]) -> dict[str, Any]:
    """What was measured of a runner, against the dense one in the same rounds."""
    faster = ratio_by_round(dense.rounds_ms, each.rounds_ms)
    count = sum(map(len, each.rounds_ms))
    return {
        "latency_ms": plain(latency(each.rounds_ms)),
        "speedup_vs_dense": faster.median,
        "speedup_spread": list(faster.extremes),
        "mj_per_frame": mj_per_frame([energy.total_j for energy in each.energies], count),
        "mj_above_idle": mj_per_frame([energy.above_idle_j(idle_w) for energy in each.energies], count),
        "energy_status": each.energies[-1].status,
    }
