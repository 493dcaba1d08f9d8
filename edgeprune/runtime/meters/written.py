"""A power as a program prints it or a file holds it: `5.2`, `5.2 W`, `5200 mW`; a number alone is in watts."""

import re

POWER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*", re.ASCII)
UNITS = {"": 1.0, "W": 1.0, "mW": 1e-3, "uW": 1e-6, "µW": 1e-6}
# No device or socket that a frame is computed on takes as much; a number of microwatts without its unit is more.
MOST_W = 100_000.0
EXPECTED = "expected watts, as 5.2, or with their unit, as 5200 mW"


def parse_watts(text: str, unit: str = "W") -> float:
    """The watts that a line of text says.

    Args:
        unit: of a number alone, a key of UNITS.

    Raises:
        ValueError: it is no power, with what was found and what was expected.
    """
    match = POWER.fullmatch(text)
    if match is None or match[2] not in UNITS:
        raise ValueError(f"{text.strip()[:60]!r} is no power; {EXPECTED}")
    watts = float(match[1]) * UNITS[match[2] or unit]
    if not abs(watts) <= MOST_W:
        raise ValueError(f"{text.strip()[:60]!r} would be {watts:,.0f} W; {EXPECTED}")
    return watts
