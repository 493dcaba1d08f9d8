"""What every energy meter is to the rest of edgeprune. Energies in joules, powers in watts, times in seconds."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeprune.base.errors import InputError, nearest


class NoSensor(InputError):
    """The meter's sensor isn't there or can't be read. `open_meter("auto")` makes it a value."""


class NotHere(NoSensor):
    """The machine has no sensor of the kind: there is nothing to mend."""


@dataclass(frozen=True)
class Energy:
    """What was measured between `start()` and `stop()`.

    Attributes:
        status: "measured by ..." or "no energy sensor: why".
        joules: energy of each rail; empty without a sensor. Rails may contain each other.
        total_j: sum of the rails in total_of, which don't; None where there is no sensor, no total, or time was left out.
        total_of: the rails that are summed.
        samples: readings taken of each rail, the first and the last included.
        seconds: that were measured: from the first reading to the last, but for what was left out.
        sampling_hz: readings of power per second; None where the hardware counts energy itself.
        left_out_s: seconds in which nobody knows what was taken, since a counter was reset; the status says so. What was done
            in them is not in `joules`: there is no energy of a whole run then, only that of the rest, and its mean power.
    """

    status: str
    joules: dict[str, float]
    total_j: float | None
    total_of: tuple[str, ...]
    samples: int
    seconds: float
    sampling_hz: float | None
    left_out_s: float = 0.0

    @property
    def rails_w(self) -> dict[str, float]:
        """Mean power of each rail; empty without a sensor."""
        return {rail: joules / self.seconds for rail, joules in self.joules.items()}

    @property
    def total_w(self) -> float | None:
        """Mean power of the total; None where there is none."""
        return None if self.total_j is None else self.total_j / self.seconds

    def above_idle_j(self, idle_w: Mapping[str, float]) -> float | None:
        """total_j less what the same rails take in the same time when idle (`measure_idle`), in joules."""
        if self.total_j is None or not all(rail in idle_w for rail in self.total_of):
            return None
        return self.total_j - self.seconds * sum(idle_w[rail] for rail in self.total_of)


class Meter(Protocol):
    """Measures from `start()` to `stop()`, any number of times in turn; `watts()` may be asked in between.

    `watts()` is the mean total power of the last second or so, in watts, of what `Energy.total_j` sums. None where there is
    no sensor, no total, or no two readings yet; where the sensor has not answered for seconds; and while nothing is measured.
    It takes no reading of its own, so that it costs microseconds and may be asked for each frame.
    """

    name: str

    def start(self) -> None: ...

    def watts(self) -> float | None: ...

    def stop(self) -> Energy: ...


def no_energy(why: str) -> Energy:
    """The value that stands for no measurement."""
    return Energy(f"no energy sensor: {why}", {}, None, (), 0, 0.0, None)


def distinct(found: Sequence[tuple[str, str]]) -> list[str]:
    """Names of rails, from (label, where it is). Labels that several share get the place behind them, as `VDD_IN@1-0040.1`:
    one of them alone is not what the label says, and their sum is nothing that anybody asked for."""
    count = Counter(label for label, _ in found)
    return [label if count[label] == 1 else f"{label}@{place}" for label, place in found]


def check_rails(wanted: Sequence[str], present: Sequence[str], meter: str) -> None:
    """Refuses rails that the meter doesn't have.

    Raises:
        NoSensor: names the rails that exist and the nearest match.
    """
    for rail in wanted:
        if rail not in present:
            raise NoSensor(f"{meter} has no rail {rail!r}; rails: {', '.join(present)}{nearest(rail, list(present))}")


def measure_idle(meter: Meter, seconds: float) -> Energy:
    """The energy of `seconds` in which the caller does nothing: `rails_w` and `total_w` of it are idle powers."""
    meter.start()
    time.sleep(seconds)
    return meter.stop()
