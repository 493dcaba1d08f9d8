"""Clocks of a Jetson's GPU and memory (EMC), in MHz, as far as they can be read without root.

The GPU's stand in /sys/class/devfreq (`17000000.gpu` on Orin, `gpu-gpc-0` on Thor); the memory's stand there as `bwmgr` on
JetPack 7 for Thor. On JetPack 6 the memory's rate is in debugfs alone, which only root may read, and its cap (what the power
mode allows) in /sys/kernel/nvpmodel_clk_cap.
"""

from pathlib import Path
from typing import Any

from edgeprune.base.device import is_jetson

DEVFREQ = "sys/class/devfreq"
GPUS = ("*gpu*", "*ga10b*", "*gv11b*")
MEMORIES = ("*bwmgr*", "*emc*")
EMC_DEBUG = "sys/kernel/debug/bpmp/debug/clk/emc"
EMC_CAP = "sys/kernel/nvpmodel_clk_cap/emc"


def _mhz(path: Path) -> float | None:
    """None where the file isn't there, can't be read, or holds no positive number of Hz."""
    try:
        hz = int(path.read_text())
    except (OSError, ValueError):
        return None
    return hz / 1e6 if hz > 0 else None


def _devfreq(folder: Path) -> dict[str, Any] | None:
    """A device's rate and the limits of it; one that is held (`jetson_clocks`) has both limits equal."""
    now = _mhz(folder / "cur_freq")
    if now is None:
        return None
    return {"mhz": now, "least_mhz": _mhz(folder / "min_freq"), "most_mhz": _mhz(folder / "max_freq")}


def _found(root: Path, patterns: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    folders = sorted({folder for pattern in patterns for folder in (root / DEVFREQ).glob(pattern)})
    return {folder.name: clock for folder in folders if (clock := _devfreq(folder))}


def gpu_clocks(root: Path = Path("/")) -> dict[str, dict[str, Any]]:
    """{name: {`mhz`, `least_mhz`, `most_mhz`}} of each clock of the GPU that can be read."""
    return _found(root, GPUS)


def memory_clock(root: Path = Path("/")) -> dict[str, Any]:
    """{`mhz`, `least_mhz`, `most_mhz`, `why`}: null where it can't be read, and then `why` says what would. `most_mhz` is the
    power mode's cap where no more is known."""
    for clock in _found(root, MEMORIES).values():
        return clock | {"why": None}
    now = _mhz(root / EMC_DEBUG / "rate")
    if now is not None:
        limits = {"least_mhz": _mhz(root / EMC_DEBUG / "min_rate"), "most_mhz": _mhz(root / EMC_DEBUG / "max_rate")}
        return {"mhz": now, **limits, "why": None}
    why = "not a Jetson"
    if is_jetson(root):
        why = f"only root may read it: sudo cat /{EMC_DEBUG}/rate, or sudo jetson_clocks --show"
    return {"mhz": None, "least_mhz": None, "most_mhz": _mhz(root / EMC_CAP), "why": why}
