"""Power monitors of Jetson modules: INA3221 (Orin, Thor) and INA238 (Thor's input), through sysfs.

Rails are found by their labels: hwmon numbers change between boots. A channel whose label is empty or `NC` (not connected) is
no rail, nor is one that is switched off (`in*_enable` 0).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.runtime.meters.meter import NoSensor, NotHere, check_rails, distinct
from edgeprune.runtime.meters.sampling import SampledMeter
from edgeprune.runtime.meters.sums import GAP_PERIODS, PowerIntegral

# A conversion takes milliseconds and a reading several I2C transfers: faster sampling reads the same value again. It keeps out
# of step with the rates of cameras: at 50 Hz every reading of a 25 Hz stream would see the same part of a frame.
SAMPLING_HZ = 46.1

DRIVERS = "sys/bus/i2c/drivers"
# (folders, label, millivolts, milliamperes, enabled, channels); `in7` of the first is a sum of the others.
INA3221_LAYOUTS = (
    (f"{DRIVERS}/ina3221*/*/hwmon/hwmon*", "in{}_label", "in{}_input", "curr{}_input", "in{}_enable", (1, 2, 3)),
    # kernels before 5.10
    (
        f"{DRIVERS}/ina3221x/*/iio:device*",
        "rail_name_{}", "in_voltage{}_input", "in_current{}_input", "in{}_enable", (0, 1, 2),
    ),
)  # fmt: skip
NOT_CONNECTED = ("", "NC")
INA238_FOLDERS = f"{DRIVERS}/ina238/*/hwmon/hwmon*"
INA238_RAIL = "VIN"  # it has one channel and no label

# The first whose rails are all there makes the total, unless the target names one.
TOTALS = (
    ("VDD_IN",),  # Orin NX, Orin Nano: the module's input
    ("VIN",),  # Thor: the input
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"),  # AGX Orin has no input rail
)


@dataclass(frozen=True)
class Rail:
    """One channel. Its power in microwatts is the product of the numbers in its files: mV x mA, or uW."""

    name: str
    files: tuple[Path, ...]

    def watts(self) -> float:
        """A reading; OSError or ValueError where the sensor doesn't answer. A few milliwatts below zero are noise of a rail
        that takes nothing (the current register has a sign), and stay: cutting them off would make noise into energy."""
        watts = math.prod(float(file.read_text()) for file in self.files) / 1e6
        if not math.isfinite(watts):
            raise ValueError(f"{watts} W is no power")
        return watts


def _text(path: Path) -> str:
    """Of a file that a driver need not have."""
    return path.read_text(errors="replace").strip() if path.exists() else ""


def find_rails(root: Path) -> dict[str, Rail]:
    """Every channel that is connected, labelled and switched on, by label; where several share one, see `distinct`."""
    found: list[tuple[str, str]] = []  # label, and chip and channel
    files: list[tuple[Path, ...]] = []
    for folders, label, millivolts, milliamperes, enabled, channels in INA3221_LAYOUTS:
        before = tuple(found)
        for folder in sorted(root.glob(folders)):
            chip = folder.relative_to(root / DRIVERS).parts[1]  # as 1-0040: bus and address, the same at every boot
            if any(place.startswith(f"{chip}.") for _, place in before):
                continue  # a driver that shows one chip in both layouts
            for channel in channels:
                name = _text(folder / label.format(channel))
                inputs = (folder / millivolts.format(channel), folder / milliamperes.format(channel))
                off = _text(folder / enabled.format(channel)) == "0"
                if name.upper() in NOT_CONNECTED or off or not all(file.exists() for file in inputs):
                    continue
                found.append((name, f"{chip}.{channel}"))
                files.append(inputs)
    for folder in sorted(root.glob(INA238_FOLDERS)):
        if (folder / "power1_input").exists():
            found.append((INA238_RAIL, folder.relative_to(root / DRIVERS).parts[1]))
            files.append((folder / "power1_input",))
    return {name: Rail(name, inputs) for name, inputs in zip(distinct(found), files, strict=True)}


def renewed(rails: Sequence[Rail]) -> str:
    """How often the chips renew what they say, where the driver tells: it is the mean of what they saw in between."""
    try:
        intervals = {int((rail.files[0].parent / "update_interval").read_text()) for rail in rails}
    except (OSError, ValueError):
        return ""
    return f", renewed every {max(intervals)} ms"


def open_ina3221(root: Path, rails: Sequence[str] | None, total_of: Sequence[str] | None) -> SampledMeter:
    """The power monitors of this board; `rails` leaves out all others, total_of names those that are summed.

    Raises:
        NoSensor: no monitor, no permission, or a rail that it doesn't have.
    """
    try:
        present = find_rails(root)
        for rail in present.values():
            rail.watts()
    except (OSError, ValueError) as error:
        remedy = "; run with sudo" if isinstance(error, PermissionError) else ""
        raise NoSensor(f"INA3221 is there but can't be read ({error}){remedy}") from error
    if not present:
        raise NotHere(f"no INA3221 under {root / DRIVERS}")
    check_rails([*(rails or ()), *(total_of or ())], list(present), "INA3221")
    if total_of is None:
        total_of = next((known for known in TOTALS if all(rail in present for rail in known)), ())
    measured = [present[name] for name in (present if rails is None else dict.fromkeys([*rails, *total_of]))]
    if total_of:
        total = f"total = {' + '.join(total_of)}"
    else:
        total = f"total unknown: which of {', '.join(present)} make it? name them in the target file"
    return SampledMeter(
        name="ina3221",
        status=f"measured by INA3221, {total}{renewed(measured)}",
        read=lambda: {rail.name: rail.watts() for rail in measured},
        new_sum=lambda: PowerIntegral(GAP_PERIODS / SAMPLING_HZ),
        period_s=1 / SAMPLING_HZ,
        total_of=total_of,
    )
