"""Energy meters: one per file behind `open_meter(name)`. Adding one is a new file and a row in SENSORS."""

from collections.abc import Callable, Sequence
from pathlib import Path

from edgeprune.base.errors import choose
from edgeprune.runtime.meters.ina3221 import open_ina3221
from edgeprune.runtime.meters.meter import Energy, Meter, NoSensor, measure_idle
from edgeprune.runtime.meters.none import NoMeter, open_none
from edgeprune.runtime.meters.nvml import open_nvml
from edgeprune.runtime.meters.rapl import open_rapl

__all__ = ["METERS", "Energy", "Meter", "NoSensor", "measure_idle", "open_meter"]

# (root of the file system, rails to read, rails that make the total) -> meter, or NoSensor
OpenMeter = Callable[[Path, "Sequence[str] | None", "Sequence[str] | None"], Meter]

SENSORS: dict[str, OpenMeter] = {"ina3221": open_ina3221, "rapl": open_rapl, "nvml": open_nvml}


def open_auto(root: Path, rails: Sequence[str] | None, total_of: Sequence[str] | None) -> Meter:
    """The first of SENSORS that is there, or a meter that says why each of them isn't."""
    reasons = []
    for open_sensor in SENSORS.values():
        try:
            return open_sensor(root, rails, total_of)
        except NoSensor as error:
            reasons.append(str(error))
    return NoMeter("; ".join(reasons))


METERS: dict[str, OpenMeter] = {"auto": open_auto, **SENSORS, "none": open_none}


def open_meter(
    name: str = "auto",
    root: Path = Path("/"),
    rails: Sequence[str] | None = None,
    total_of: Sequence[str] | None = None,
) -> Meter:
    """Opens a meter.

    Args:
        name: a key of METERS; "auto" always succeeds.
        root: where /sys lies, for tests.
        rails: the rails to read, by their labels; all by default.
        total_of: the rails whose sum is the total; by default what is known of the board.

    Raises:
        InputError: an unknown meter, or one chosen by name whose sensor or rail isn't there (NoSensor).
    """
    return choose(METERS, name, "energy meter")(root, rails, total_of)
