"""The machine that a measurement was made on: versions, power mode, clocks, temperature."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from edgeprune.base.clocks import cpu_clock, gpu_clocks, memory_clock
from edgeprune.base.power_mode import governor, power_mode
from edgeprune.base.table import plain
from edgeprune.base.version import __version__

ZONES = "sys/class/thermal/thermal_zone*"


def describe_machine(root: Path = Path("/")) -> dict[str, Any]:
    """`edgeprune`, `python`, `numpy`, `pillow`, `system`, `cpu`, `cores` (those we may use), `power_mode`, the CPU's
    `governor`, and `clocks`: {`cpu`, `gpu`, `memory`}, see `edgeprune.base.clocks`.

    `root`: where /sys lies, for tests.
    """
    return {
        "edgeprune": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "power_mode": power_mode(root),
        "governor": governor(root),
        "clocks": plain({"cpu": cpu_clock(root), "gpu": gpu_clocks(root), "memory": memory_clock(root)}),
    }


def temperatures_c(root: Path = Path("/")) -> dict[str, float]:
    """Degrees Celsius of each thermal zone that can be read, by its type, of several of one type the hottest; empty where none
    can."""
    found: dict[str, float] = {}
    for zone in sorted(root.glob(ZONES)):
        try:
            kind, celsius = (zone / "type").read_text().strip(), int((zone / "temp").read_text()) / 1000
        except (OSError, ValueError):  # a zone of a part that is switched off
            continue
        found[kind] = max(celsius, found.get(kind, celsius))
    return found


def peak_mb() -> float | None:
    """The most memory that this process has held so far, resident, in 1e6 bytes; None where there is no /proc.

    From the high-water mark of its own memory: `ru_maxrss` begins with that of the process that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def x86_flags(root: Path = Path("/")) -> set[str]:
    """What an x86 CPU can, as `avx512_vnni`; empty for any other, and where there is no /proc. `root`: for tests."""
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
