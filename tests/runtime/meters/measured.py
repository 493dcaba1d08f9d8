"""Boards by their rails, in millivolts and milliamperes, and what a meter says of one."""

from pathlib import Path

from edgeprune.runtime.meters import Energy, open_meter

AGX_ORIN = {
    "VDD_GPU_SOC": (20000, 200),
    "VDD_CPU_CV": (20000, 100),
    "VIN_SYS_5V0": (5000, 600),
    "VDDQ_VDD2_1V8AO": (20000, 50),
}
ORIN_NANO = {"VDD_IN": (5000, 1000), "VDD_CPU_GPU_CV": (5000, 300), "VDD_SOC": (5000, 200)}


def measure(name: str, root: Path, rails: list[str] | None = None, total_of: list[str] | None = None) -> Energy:
    meter = open_meter(name, root, rails, total_of)
    meter.start()
    return meter.stop()


def watts(energy: Energy) -> dict[str, float]:
    return {rail: joules / energy.seconds for rail, joules in energy.joules.items()}
