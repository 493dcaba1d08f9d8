"""A file that holds the power of the moment: of the kernel, or one that a program of the user's writes again and again."""

import re
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import read_text
from edgeprune.runtime.meters.meter import NoSensor
from edgeprune.runtime.meters.sampling import SampledMeter
from edgeprune.runtime.meters.sums import GAP_PERIODS, PowerIntegral
from edgeprune.runtime.meters.written import parse_watts

SAMPLING_HZ = 9.1  # out of step with cameras, see ina3221.py
MOST_BYTES = 65_536
RAIL = "power"
# what the kernel's interfaces name so is in microwatts (Documentation/hwmon/sysfs-interface, ABI/testing/sysfs-class-power)
IN_MICROWATTS = re.compile(r"power\d+_(input|average)|power_now")


def read_watts(path: Path) -> float:
    """What the last line of the file says.

    Raises:
        OSError: it can't be read.
        ValueError: it is empty, or no power.
    """
    try:
        lines = read_text(path, "power file", MOST_BYTES).split("\n")
    except InputError as error:
        raise OSError(str(error)) from None
    last = next((line for line in reversed(lines) if line.strip()), "")
    return parse_watts(last, "uW" if IN_MICROWATTS.fullmatch(path.name) else "W")


def open_file(typed: str) -> SampledMeter:
    """A meter that reads the file `typed` nine times a second.

    Raises:
        InputError: no file is named.
        NoSensor: it can't be read, or its last line is no power.
    """
    if not typed.strip():
        raise InputError("--meter file: names no file; type it behind the colon, as file:/run/power")
    path = Path(typed)
    try:
        read_watts(path)
    except (OSError, ValueError) as error:
        other = f"; of a pipe, a device or a log that grows: command:cat {typed}" if isinstance(error, OSError) else ""
        raise NoSensor(f"--meter file:{typed}: {error}{other if path.exists() else ''}") from error
    return SampledMeter(
        name="file",
        status=f"measured by what {path} says, read {SAMPLING_HZ:.0f} times a second",
        read=lambda: {RAIL: read_watts(path)},
        new_sum=lambda: PowerIntegral(GAP_PERIODS / SAMPLING_HZ),
        period_s=1 / SAMPLING_HZ,
        total_of=[RAIL],
    )
