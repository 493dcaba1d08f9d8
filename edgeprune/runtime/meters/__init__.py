"""Energy meters: one per file behind `open_meter(name)`. Adding one is a new file and a row in SENSORS."""

from collections.abc import Callable, Sequence
from pathlib import Path

from edgeprune.base.errors import choose
from edgeprune.runtime.meters.ina3221 import open_ina3221
from edgeprune.runtime.meters.meter import Energy, Meter, NoSensor, NotHere, measure_idle
from edgeprune.runtime.meters.none import NoMeter, open_none
from edgeprune.runtime.meters.nvml import open_nvml
from edgeprune.runtime.meters.rapl import open_rapl

__all__ = ["SENSORS", "Energy", "Meter", "NoSensor", "measure_idle", "meters", "open_meter"]

# (root of the file system, rails to read, rails that make the total) -> meter, or NoSensor
OpenMeter = Callable[[Path, "Sequence[str] | None", "Sequence[str] | None"], Meter]

# what a person calls it, and what opens it
SENSORS: dict[str, tuple[str, OpenMeter]] = {
    "ina3221": ("INA3221 (Jetson)", open_ina3221),
    "rapl": ("RAPL (Intel and AMD CPUs)", open_rapl),
    "nvml": ("NVML (NVIDIA GPUs)", open_nvml),
}


def open_auto(root: Path, rails: Sequence[str] | None, total_of: Sequence[str] | None) -> Meter:
    """The first of SENSORS that is there. Else a meter that says what is wrong with those that the machine has, and which kinds
    there are where it has none."""
    reasons = []
    for _, open_sensor in SENSORS.values():
        try:
            return open_sensor(root, rails, total_of)
        except NotHere:
            continue
        except NoSensor as error:
            reasons.append(str(error))
    return NoMeter("; ".join(reasons) or f"none of {', '.join(what for what, _ in SENSORS.values())} is here")


def meters() -> dict[str, OpenMeter]:
    """What opens each meter, by the name to type: SENSORS, the first of them that is there, and none."""
    sensors = {name: open_sensor for name, (_, open_sensor) in SENSORS.items()}
    return {"auto": open_auto, **sensors, "none": open_none}


def open_meter(
    name: str = "auto",
    root: Path = Path("/"),
    rails: Sequence[str] | None = None,
    total_of: Sequence[str] | None = None,
) -> Meter:
    """Opens a meter.

    Args:
        name: a key of `meters()`; "auto" always succeeds.
        root: where /sys lies, for tests.
        rails: the rails to read, by their labels; all by default.
        total_of: the rails whose sum is the total; by default what is known of the board.

    Raises:
        InputError: an unknown meter, or one chosen by name whose sensor or rail isn't there (NoSensor).
    """
    return choose(meters(), name, "energy meter")(root, rails, total_of)
