"""What a run may take: `33ms`, `15fps`, `10W`, `250mJ`, or several of them, as a person types them."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from edgeprune.base.errors import InputError, choose

LEAST, LARGEST = 0.0001, 1e6  # of any unit: other numbers are slips
TYPED = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]+)\s*")


@dataclass(frozen=True)
class Budget:
    """What a frame, or a second, may take; None: as much as it likes.

    Attributes:
        latency_ms: of each frame, in hand to labels in hand; held by 99 frames of 100.
        fps: frames a second that the loop could process, overlay and outputs included, on the mean of a second or so. Where a
            run has several cameras, each is to have as many: see `for_cameras`.
        power_w: of the machine, gross, on the mean of the meter's window.
        energy_mj: of each frame, gross, on the mean of the meter's window: power times the time from frame to frame.
    """

    latency_ms: float | None = None
    fps: float | None = None
    power_w: float | None = None
    energy_mj: float | None = None

    @property
    def metered(self) -> bool:
        """Whether it can be held with an energy sensor alone."""
        return self.power_w is not None or self.energy_mj is not None

    def for_cameras(self, count: int) -> "Budget":
        """What one engine holds so that each of so many cameras has this budget: the rates add up; latency and energy are of a
        frame, and power is the machine's."""
        return self if self.fps is None else replace(self, fps=count * self.fps)

    def __str__(self) -> str:
        """As it is typed."""
        limits = [(getattr(self, unit.field), unit.typed) for unit in UNITS.values()]
        return ",".join(f"{limit:g}{typed}" for limit, typed in limits if limit is not None)


class Unit(NamedTuple):
    """A unit of a budget: the field of `Budget` that it sets, and how it is typed."""

    field: str
    typed: str


# by what is typed, in small letters
UNITS: dict[str, Unit] = {
    "ms": Unit("latency_ms", "ms"),
    "fps": Unit("fps", "fps"),
    "w": Unit("power_w", "W"),
    "mj": Unit("energy_mj", "mJ"),
}
assert [unit.field for unit in UNITS.values()] == [field.name for field in fields(Budget)]
EXAMPLES = "33ms, 15fps, 10W, 250mJ, or several as 33ms,10W"


def parse_budget(typed: str, say: Callable[[str], str] = lambda part: f"--budget {part}") -> Budget:
    """A budget from what was typed.

    Args:
        say: names the place of a part in an error.

    Raises:
        InputError: not a number and a unit, a unit that there is not or that comes twice, or no positive number.
    """
    limits: dict[str, float] = {}
    for part in typed.split(","):
        match = TYPED.fullmatch(part)
        if not match:
            raise InputError(f"{say(repr(part.strip()[:40]))} is no budget; type a number and a unit: {EXAMPLES}")
        limit, unit = float(match[1]), choose(UNITS, match[2].lower(), "unit of a budget")
        if not (math.isfinite(limit) and LEAST <= limit <= LARGEST):
            raise InputError(f"{say(part.strip())}: {limit:g} is not {LEAST} to {LARGEST:.0f}; type such as {EXAMPLES}")
        if unit.field in limits:
            raise InputError(f"{say(typed[:80])} names {unit.typed} twice; leave one of the two out")
        limits[unit.field] = limit
    return Budget(**limits)
