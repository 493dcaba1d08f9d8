"""Energy meters: one per file. Adding one is a new file and a row: in SENSORS for a sensor that is found on the machine, in
GIVEN for one that a person has to describe."""

from collections.abc import Callable, Sequence
from pathlib import Path

from edgeprune.base.errors import InputError, choose, nearest
from edgeprune.base.paths import from_home
from edgeprune.runtime.meters.command import open_command
from edgeprune.runtime.meters.file import open_file
from edgeprune.runtime.meters.ina3221 import open_ina3221
from edgeprune.runtime.meters.meter import Energy, Meter, NoSensor, NotHere, measure_idle
from edgeprune.runtime.meters.none import NoMeter, open_none
from edgeprune.runtime.meters.nvml import open_nvml
from edgeprune.runtime.meters.rapl import open_rapl

__all__ = [
    "GIVEN",
    "OTHER_METER",
    "SENSORS",
    "Energy",
    "Meter",
    "NoSensor",
    "measure_idle",
    "meter_seen_from",
    "meters",
    "meters_to_type",
    "open_meter",
    "open_typed",
]

# (root of the file system, rails to read, rails that make the total) -> meter, or NoSensor
OpenMeter = Callable[[Path, "Sequence[str] | None", "Sequence[str] | None"], Meter]

# what a person calls it, and what opens it
SENSORS: dict[str, tuple[str, OpenMeter]] = {
    "ina3221": ("INA3221 (Jetson)", open_ina3221),
    "rapl": ("RAPL (Intel and AMD CPUs)", open_rapl),
    "nvml": ("NVML (NVIDIA GPUs)", open_nvml),
}
# what a person types, and what opens it from what stands behind the colon. A bundle can't name one: it would choose a program
# or a file of this machine
GIVEN: dict[str, tuple[str, Callable[[str], Meter]]] = {
    "command": ("'command:PROGRAM ...'", open_command),
    "file": ("file:PATH", open_file),
}
# what to do where no sensor is found
OTHER_METER = "a meter at the plug is one too: --meter 'command:PROGRAM ...', which prints watts (docs/measuring.md)"


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


def meters_to_type() -> str:
    """What a person can type: the names of `meters()`, and those that need more than a name."""
    return ", ".join([*meters(), *(typed for typed, _ in GIVEN.values())])


def meter_seen_from(typed: str, folder: Path) -> str:
    """What a file in `folder` says of a meter, as it is typed anywhere: the path of `file:PATH` is meant from there."""
    kind, colon, given = typed.partition(":")
    return f"{kind}:{folder / from_home(given)}" if kind == "file" and colon and given else typed


def open_typed(
    typed: str,
    root: Path = Path("/"),
    rails: Sequence[str] | None = None,
    total_of: Sequence[str] | None = None,
) -> Meter:
    """Opens the meter that a person typed: a sensor as `open_meter`, or one of GIVEN, which has one rail and no use for others.

    Raises:
        InputError: as `open_meter`; or what stands behind the colon is no meter.
    """
    kind, colon, given = typed.partition(":")
    if kind in GIVEN:
        what, open_given = GIVEN[kind]
        if not colon:
            raise InputError(f"--meter {kind}: type {what}")
        return open_given(given)
    if typed not in meters():
        known = [*meters(), *GIVEN]
        raise InputError(f"unknown energy meter {typed!r}; choices: {meters_to_type()}{nearest(kind, known)}")
    try:
        return open_meter(typed, root, rails, total_of)
    except NotHere as error:
        own = " or ".join(typed for typed, _ in GIVEN.values())
        raise NoSensor(f"{error}; type --meter auto for what is there, or {own} for a meter of yours") from error


def open_meter(
    name: str = "auto",
    root: Path = Path("/"),
    rails: Sequence[str] | None = None,
    total_of: Sequence[str] | None = None,
) -> Meter:
    """Opens a meter that is found on the machine.

    Args:
        name: a key of `meters()`; "auto" always succeeds.
        root: where /sys lies, for tests.
        rails: the rails to read, by their labels; all by default.
        total_of: the rails whose sum is the total; by default what is known of the board.

    Raises:
        InputError: an unknown meter, or one chosen by name whose sensor or rail isn't there (NoSensor).
    """
    return choose(meters(), name, "energy meter")(root, rails, total_of)
