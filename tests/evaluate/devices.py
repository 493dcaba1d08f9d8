"""A simulated device: what it takes depends on the graph that runs, on its own clock."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeprune.base.statistics import Latency
from edgeprune.evaluate.worker import Window
from edgeprune.runtime.meters import Energy
from edgeprune.runtime.meters.sampling import energy_of
from edgeprune.runtime.meters.sums import GAP_PERIODS, PowerIntegral

HZ = 46.1


@dataclass
class Device:
    """Its power over time, as (from when on, watts of the input, watts of the GPU, which is a part of the input)."""

    now_s: float = 0.0
    idle_w: tuple[float, float] = (4.0, 0.5)
    power: list[tuple[float, float, float]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def spend(self, seconds: float, watts: tuple[float, float]) -> None:
        self.power.append((self.now_s, *watts))
        self.now_s += seconds

    def wait(self, seconds: float) -> None:
        self.done.append(f"wait {seconds:g}")
        self.spend(seconds, self.idle_w)

    def watts_at(self, time_s: float) -> dict[str, float]:
        _, total_w, gpu_w = next(each for each in reversed(self.power) if each[0] <= time_s)
        return {"IN": total_w, "GPU": gpu_w}


@dataclass
class Graph:
    """Takes `ms` a frame and so many watts while it runs; in its first second after another one, `cold_w` more."""

    device: Device
    label: str
    ms: float
    watts: tuple[float, float]
    cold_w: float = 3.0

    def window(self, seconds: float, halfway: Callable[[], None] | None = None) -> Window:
        device = self.device
        device.done.append(f"{self.label} {seconds:g}")
        frames = math.ceil(1000 * seconds / self.ms)
        taken_s = frames * self.ms / 1000
        if halfway:
            halfway()
            device.spend(taken_s, self.watts)
        else:  # it warms up
            device.spend(taken_s, (self.watts[0] + self.cold_w, self.watts[1]))
        return Window(frames, taken_s, Latency(self.ms, self.ms + 1), {self.label: frames}, None)


class SampledDevice:
    """A meter of a device that reads both rails 46.1 times a second."""

    name = "simulated"
    total_of: tuple[str, ...] = ("IN",)
    hz = HZ

    def __init__(self, device: Device):
        self.device = device
        self.lost: tuple[float, float] | None = None  # no readings from when until when

    def start(self) -> None:
        self.begin_s = self.device.now_s

    def watts(self) -> None: ...

    def stop(self) -> Energy:
        taken, end_s = PowerIntegral(GAP_PERIODS / self.hz), self.device.now_s - 1e-9
        times = [self.begin_s + each / self.hz for each in range(int((end_s - self.begin_s) * self.hz) + 1)]
        for time_s in (*times, end_s):
            if not (self.lost and self.lost[0] < time_s < self.lost[1]):
                taken.add(time_s, self.device.watts_at(time_s))
        return energy_of(taken, "measured by a simulation", self.total_of)
