"""No sensor: a meter whose measurement says so and why, and gives no number."""

from collections.abc import Sequence
from pathlib import Path

from edgeprune.runtime.meters.meter import Energy, no_energy


class NoMeter:
    """Measures nothing."""

    name = "none"

    def __init__(self, why: str):
        self._why = why

    def start(self) -> None:
        """Nothing to start."""

    def watts(self) -> None:
        """None, always."""

    def stop(self) -> Energy:
        """A value without numbers, whose status holds the reason."""
        return no_energy(self._why)


def open_none(root: Path, rails: Sequence[str] | None, total_of: Sequence[str] | None) -> NoMeter:
    """The meter of who doesn't want one."""
    return NoMeter("none was asked for")
