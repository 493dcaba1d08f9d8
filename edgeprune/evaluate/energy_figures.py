"""What windows of graphs and two measurements of idle power say of a frame's energy.

Mean power over all windows of a graph, and the frames of the very same windows (`energy.py`, which measures them).
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any, Protocol

from edgeprune.base.statistics import Extremes, Latency, extremes
from edgeprune.evaluate.worker import Window
from edgeprune.runtime.meters import Energy

logger = logging.getLogger(__name__)

MOST_DRIFT = 0.05  # of idle power from before to after; beyond, the machine was not at rest
MOST_OTHERS = 0.05  # of the processors, that other processes take; beyond, the machine did other work


class Runs(Protocol):
    """A graph that can be run for a while: `timing.Entry`."""

    @property
    def label(self) -> str: ...

    def window(self, seconds: float, halfway: Callable[[], None] | None = None) -> Window: ...


@dataclass
class Measured:
    """What was measured of one graph: a window, its energy, what others took of the processors meanwhile, and what the machine
    was at in the middle of it, by round."""

    graph: Runs
    windows: list[Window] = field(default_factory=list)
    energies: list[Energy] = field(default_factory=list)
    others: list[float | None] = field(default_factory=list)
    clocks_mhz: list[dict[str, float]] = field(default_factory=list)
    temperatures_c: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Idle:
    """What the machine takes when every graph is open and none runs, in watts by rail.

    Attributes:
        before_w, after_w: all graphs.
        total_before_w, total_after_w: of the rails that make the total.
        drift: total_after_w as a share more than total_before_w; None where that is 0.
        temperature_c: of each sensor, `before` and `after`.
        others: share of the processors that other processes took, the larger of both; None where that can't be told.
    """

    before_w: dict[str, float]
    after_w: dict[str, float]
    total_before_w: float
    total_after_w: float
    drift: float | None
    temperature_c: dict[str, dict[str, float]]
    others: float | None = None

    @property
    def busy(self) -> bool:
        """Whether that is more than MOST_OTHERS: what is subtracted is not the machine's alone."""
        return is_busy(self.others)

    def watts(self, rail: str) -> float:
        """The mean of before and after, which is what is subtracted."""
        return (self.before_w[rail] + self.after_w[rail]) / 2


@dataclass(frozen=True)
class RailEnergy:
    """A rail's mean power over the windows of a graph, and what that makes of a frame, gross and less idle power."""

    watts: float
    mj_per_frame: float
    mj_above_idle: float


@dataclass(frozen=True)
class EnergyFigures:
    """What one graph takes.

    Attributes:
        frames, seconds: over all rounds.
        fps: frames over seconds, one after the other.
        latency_ms: the median over the rounds of each.
        watts: mean power of the total.
        mj_per_frame: watts over fps.
        mj_spread: of it, over the rounds.
        mj_above_idle: less what the machine takes when idle.
        rails: each of them; they may contain each other.
        samples: readings of power.
        sampling_hz: of them; None where the hardware counts energy itself.
        clocks_mhz: in the middle of the windows, their mean.
        temperature_c: likewise, the highest of each sensor.
        buckets: how many frames each bucket had.
        others: share of the processors that other processes took, of the window in which it was largest; None where that can't
            be told.
        busy: whether that is more than MOST_OTHERS: the figures are those of a machine that did other work.
    """

    frames: int
    seconds: float
    fps: float
    latency_ms: Latency
    watts: float
    mj_per_frame: float
    mj_spread: Extremes
    mj_above_idle: float
    rails: dict[str, RailEnergy]
    samples: int
    sampling_hz: float | None
    clocks_mhz: dict[str, float]
    temperature_c: dict[str, float]
    buckets: dict[str, int]
    others: float | None
    busy: bool


def is_busy(others: float | None) -> bool:
    return others is not None and others > MOST_OTHERS


def largest(shares: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    return max((share for share in shares if share is not None), default=None)


def idle_of(
    before: Energy, after: Energy, temperature_c: dict[str, dict[str, float]], others: float | None = None
) -> Idle:
    """What two measurements of idle power say; a drift beyond MOST_DRIFT is said too."""
    before_w, after_w = before.rails_w, after.rails_w
    totals = [sum(each[rail] for rail in before.total_of) for each in (before_w, after_w)]
    drift = totals[1] / totals[0] - 1 if totals[0] else None
    if drift is not None and abs(drift) > MOST_DRIFT:
        logger.warning(
            f"idle power went from {totals[0]:.2f} to {totals[1]:.2f} W ({drift:+.0%}): the machine was not at rest, or it "
            "warmed up; let it come to rest, stop other programs, and run again"
        )
    return Idle(before_w, after_w, totals[0], totals[1], drift, temperature_c, others)


def figures_of(measured: Measured, idle: Idle) -> EnergyFigures:
    """Mean power over all windows, weighted with their length, over the frames of the very same windows."""
    windows, energies = measured.windows, measured.energies
    frames, seconds = sum(window.frames for window in windows), sum(window.seconds for window in windows)
    by_round = [energy.rails_w for energy in energies]
    total_of = energies[0].total_of

    def rail_energy(rail: str) -> RailEnergy:
        joules = sum(watts[rail] * window.seconds for watts, window in zip(by_round, windows, strict=True))
        watts = joules / seconds
        return RailEnergy(watts, 1e3 * joules / frames, 1e3 * (watts - idle.watts(rail)) * seconds / frames)

    rails = {rail: rail_energy(rail) for rail in by_round[0]}
    mj_by_round = [
        1e3 * sum(watts[rail] for rail in total_of) * window.seconds / window.frames
        for watts, window in zip(by_round, windows, strict=True)
    ]
    rates = [energy.sampling_hz for energy in energies if energy.sampling_hz is not None]
    return EnergyFigures(
        frames=frames,
        seconds=seconds,
        fps=frames / seconds,
        latency_ms=Latency(
            median(window.latency_ms.p50 for window in windows), median(window.latency_ms.p95 for window in windows)
        ),
        watts=sum(rails[rail].watts for rail in total_of),
        mj_per_frame=sum(rails[rail].mj_per_frame for rail in total_of),
        mj_spread=extremes(mj_by_round),
        mj_above_idle=sum(rails[rail].mj_above_idle for rail in total_of),
        rails=rails,
        samples=sum(energy.samples for energy in energies),
        sampling_hz=min(rates, default=None),
        clocks_mhz=_merged(measured.clocks_mhz, mean),
        temperature_c=_merged(measured.temperatures_c, max),
        buckets=_merged([window.buckets for window in windows], sum),
        others=largest(measured.others),
        busy=is_busy(largest(measured.others)),
    )


def _merged(each: Sequence[Mapping[str, Any]], how: Callable[[list[Any]], Any]) -> dict[str, Any]:
    """The values of each key that several mappings have, made one."""
    keys = dict.fromkeys(key for mapping in each for key in mapping)
    return {key: how([mapping[key] for mapping in each if key in mapping]) for key in keys}
