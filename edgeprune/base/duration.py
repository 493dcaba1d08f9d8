"""How long: `30s`, `5m`, `1.5h`, as people type it and read it."""

import math
import re
from typing import Any

from edgeprune.base.errors import InputError

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
MOST_S = 365 * 86_400.0
_TYPED = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smh]?)", re.ASCII)


def read_duration(given: Any, what: str) -> float:
    """`"5m"` -> 300.0 seconds; a number without a unit is in seconds.

    Args:
        what: the option, as a message calls it.

    Raises:
        InputError: it is no duration, negative, or longer than a year.
    """
    seconds = math.nan
    if isinstance(given, str) and (typed := _TYPED.fullmatch(given.strip().lower())):
        seconds = float(typed[1]) * UNITS_S[typed[2] or "s"]
    elif isinstance(given, int | float) and not isinstance(given, bool):
        seconds = float(given)
    if not 0 <= seconds <= MOST_S:
        raise InputError(f"{what} {str(given)[:40]!r} is no duration up to a year; write one as 30s, 5m, 2h, or 0")
    return seconds


def shown_duration(seconds: float) -> str:
    """`300.0` -> `5 min`: in the largest unit that makes a number of at least one, to a tenth."""
    for unit, length_s in (("h", 3600.0), ("min", 60.0)):
        if seconds >= length_s:
            return f"{round(seconds / length_s, 1):g} {unit}"
    return f"{round(seconds, 1):g} s"
