"""Power modes of a Jetson: which one is set, which is the fastest, and the command that sets it.

A mode's number says nothing of its speed: MAXN is mode 0 on an AGX Orin, MAXN_SUPER is mode 2 on an Orin Nano with JetPack 6.2
and mode 0 on an Orin NX. `/etc/nvpmodel.conf` says what a board's numbers mean. Its form, as its own header states it:

    < POWER_MODEL ID=2 NAME=MAXN_SUPER >
    CPU_ONLINE CORE_0 1
    GPU MAX_FREQ -1                     in Hz; -1 is no limit
"""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
CONFIGURATION = "etc/nvpmodel.conf"
STATUS = "var/lib/nvpmodel/status"  # `pmode:0002`, where the program itself can't be run, as in a container
HEADER = re.compile(r"^\s*<\s*(\w+)\s*(.*?)\s*>")
NO_LIMIT = -1


@dataclass(frozen=True)
class PowerMode:
    """One of a board's modes. `limits`: by parameter and argument, as {"GPU MAX_FREQ": 1020000000}."""

    number: int
    name: str
    limits: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} (mode {self.number})"

    def speed(self) -> tuple[float, int, int]:
        """What compares modes: the GPU's highest clock, the watts in the name, cores that are on."""
        clock_hz = self.limits.get("GPU MAX_FREQ", 0)
        watts = re.search(r"(\d+)W", self.name)
        cores = sum(value for key, value in self.limits.items() if key.startswith("CPU_ONLINE "))
        return float("inf") if clock_hz == NO_LIMIT else clock_hz, int(watts[1]) if watts else 0, cores


def power_modes(root: Path = Path("/")) -> list[PowerMode]:
    """Those that this board's configuration names, in its order; none where there is no such file."""
    try:
        lines = (root / CONFIGURATION).read_text(errors="replace").splitlines()
    except OSError:
        return []
    modes: list[PowerMode] = []
    inside = False
    for line in lines:
        if header := HEADER.match(line):
            about = dict(re.findall(r"(\w+)\s*=\s*([^\s=]+)", header[2]))
            inside = header[1] == "POWER_MODEL" and about.get("ID", "").isdecimal() and "NAME" in about
            if inside:
                modes.append(PowerMode(int(about["ID"]), about["NAME"]))
        elif inside and (limit := re.match(r"\s*(\w+)\s+(\w+)\s+(-?\d+)\b", line)):
            modes[-1].limits[f"{limit[1]} {limit[2]}"] = int(limit[3])
    return modes


def fastest(modes: list[PowerMode]) -> PowerMode | None:
    """MAXN_SUPER before MAXN, which is NVIDIA's name for "no limits"; where there is neither, the mode of the highest clocks.
    None where nothing tells."""
    without_limits = [mode for mode in modes if "MAXN" in mode.name]
    if without_limits:
        return max(without_limits, key=lambda mode: "SUPER" in mode.name)
    known = [mode for mode in modes if mode.speed() > (0, 0, 0)]
    return max(known, key=PowerMode.speed) if known else None


def _asked() -> str:
    """What `nvpmodel -q` prints; empty where it isn't there."""
    try:
        return subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def current_mode(root: Path = Path("/")) -> PowerMode | None:
    """The mode that is set, where the board says so. `nvpmodel -q` answers with lines as

    NV Fan Mode:quiet
    NV Power Mode: MAXN_SUPER
    2
    NVPM ERROR: Error opening ...       without root, on some releases
    """
    modes = {mode.number: mode for mode in power_modes(root)}
    answer = re.search(r"NV Power Mode:[ \t]*(\S+)\s+(\d+)\b", _asked())
    if answer:
        return modes.get(int(answer[2])) or PowerMode(int(answer[2]), answer[1])
    try:
        status = re.search(r"pmode:0*(\d+)", (root / STATUS).read_text(errors="replace"))
    except OSError:
        return None
    return modes.get(int(status[1])) if status else None


def power_mode(root: Path = Path("/")) -> str | None:
    """The mode of a Jetson, as `MAXN_SUPER (mode 2)`; elsewhere the CPU's frequency governor; None where neither tells."""
    if mode := current_mode(root):
        return str(mode)
    which = governor(root)
    return f"governor {which}" if which else None


def governor(root: Path = Path("/")) -> str | None:
    """What chooses the CPU's clock, such as `schedutil` or `performance`; None where nothing tells."""
    try:
        return (root / GOVERNOR).read_text().strip() or None
    except OSError:
        return None


def how_to_be_fastest(root: Path = Path("/")) -> str | None:
    """What to type for the board's full clocks; None where its fastest mode is set, or isn't known."""
    most, now = fastest(power_modes(root)), current_mode(root)
    if most is None or now == most:
        return None
    return f"its fastest is {most.name}: sudo nvpmodel -m {most.number}, then sudo jetson_clocks"


def slower_than_it_could_be(root: Path = Path("/")) -> str | None:
    """A line for a person who is about to measure; None where there is nothing to say."""
    remedy, now = how_to_be_fastest(root), current_mode(root)
    return f"the board is in power mode {now}; {remedy}" if remedy and now else None
