"""Clocks of the CPU, and of a Jetson's GPU and memory (EMC), in MHz, as far as they can be read without root.

The GPU's stand in /sys/class/devfreq (`17000000.gpu` on Orin, `gpu-gpc-0` on Thor); the memory's stand there as `bwmgr` on
JetPack 7 for Thor. On JetPack 6 the memory's rate is in debugfs alone, which only root may read, and its cap (what the power
mode allows) in /sys/kernel/nvpmodel_clk_cap.
"""

from dataclasses import dataclass
from pathlib import Path

from edgeprune.base.device import is_jetson

CPUS = "sys/devices/system/cpu/cpu[0-9]*/cpufreq"
CPU_LIMITS = "sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq"
DEVFREQ = "sys/class/devfreq"
GPUS = ("*gpu*", "*ga10b*", "*gv11b*")
MEMORIES = ("*bwmgr*", "*emc*")
EMC_DEBUG = "sys/kernel/debug/bpmp/debug/clk/emc"
EMC_CAP = "sys/kernel/nvpmodel_clk_cap/emc"


@dataclass(frozen=True)
class Clock:
    """A rate and its limits; None where they can't be read."""

    mhz: float | None
    least_mhz: float | None
    most_mhz: float | None


@dataclass(frozen=True)
class MemoryClock(Clock):
    """The memory's. `why`: what would tell the rate, where it can't be read."""

    why: str | None = None


def _mhz(path: Path, per_mhz: float = 1e6) -> float | None:
    """None where the file isn't there, can't be read, or holds no positive number, of Hz unless told."""
    try:
        rate = int(path.read_text())
    except (OSError, ValueError):
        return None
    return rate / per_mhz if rate > 0 else None


def _devfreq(folder: Path) -> Clock | None:
    """A device's clock; one that is held (`jetson_clocks`) has both limits equal."""
    now = _mhz(folder / "cur_freq")
    return None if now is None else Clock(now, _mhz(folder / "min_freq"), _mhz(folder / "max_freq"))


def _found(root: Path, patterns: tuple[str, ...]) -> dict[str, Clock]:
    folders = sorted({folder for pattern in patterns for folder in (root / DEVFREQ).glob(pattern)})
    return {folder.name: clock for folder in folders if (clock := _devfreq(folder))}


def cpu_clock(root: Path = Path("/")) -> Clock | None:
    """The mean of the cores that are on, and the limits that are set for the fastest of them; None where no driver tells."""
    cores = [
        [_mhz(folder / f"scaling_{which}_freq", per_mhz=1e3) for which in ("cur", "min", "max")]
        for folder in sorted(root.glob(CPUS))
    ]
    now, least, most = (
        ([mhz for mhz in each if mhz is not None] for each in zip(*cores, strict=True)) if cores else [[]] * 3
    )
    return Clock(sum(now) / len(now), max(least, default=None), max(most, default=None)) if now else None


def clocks_mhz(root: Path = Path("/")) -> dict[str, float]:
    """What runs at how many MHz now: `cpu`, the GPU's clocks by their names, `memory`; those that can be read."""
    found = {"cpu": cpu_clock(root), **gpu_clocks(root), "memory": memory_clock(root)}
    return {name: clock.mhz for name, clock in found.items() if clock and clock.mhz is not None}


def clock_limits_mhz(root: Path = Path("/")) -> dict[str, float]:
    """What each clock may be at most now, in MHz: of each CPU policy `scaling_max_freq` (admin-guide/pm/cpufreq.rst:
    "Maximum frequency the CPUs belonging to this policy are allowed to be running at"), the GPU's clocks by their names,
    `memory`; those that can be read."""
    limits = {path.parent.name: _mhz(path, per_mhz=1e3) for path in sorted(root.glob(CPU_LIMITS))}
    limits |= {name: clock.most_mhz for name, clock in gpu_clocks(root).items()}
    limits["memory"] = memory_clock(root).most_mhz
    return {name: mhz for name, mhz in limits.items() if mhz is not None}


def gpu_clocks(root: Path = Path("/")) -> dict[str, Clock]:
    """Each clock of the GPU that can be read, by name."""
    return _found(root, GPUS)


def memory_clock(root: Path = Path("/")) -> MemoryClock:
    """The memory's clock; `most_mhz` is the power mode's cap where no more is known."""
    for clock in _found(root, MEMORIES).values():
        return MemoryClock(**vars(clock))
    now = _mhz(root / EMC_DEBUG / "rate")
    if now is not None:
        return MemoryClock(now, _mhz(root / EMC_DEBUG / "min_rate"), _mhz(root / EMC_DEBUG / "max_rate"))
    why = "not a Jetson"
    if is_jetson(root):
        why = f"only root may read it: sudo cat /{EMC_DEBUG}/rate, or sudo jetson_clocks --show"
    return MemoryClock(None, None, _mhz(root / EMC_CAP), why)
