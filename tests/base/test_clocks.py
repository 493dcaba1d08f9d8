"""Clocks of CPU, GPU and memory, where each release of Jetson Linux keeps them."""

from pathlib import Path

import pytest

from edgeprune.base.clocks import Clock, MemoryClock, clocks_mhz, cpu_clock, gpu_clocks, memory_clock
from edgeprune.base.machine import describe_machine
from tests.power_modes import write

ORIN = {"proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0"}


def test_thors_memory_clock_needs_no_root(tmp_path: Path) -> None:
    devfreq = "sys/class/devfreq"
    files = {f"{devfreq}/bwmgr/{name}": hz for name, hz in (("cur_freq", "3200000000\n"), ("max_freq", "4266000000\n"))}
    files |= {f"{devfreq}/gpu-gpc-0/{name}_freq": "1575000000\n" for name in ("cur", "min", "max")}
    root = write(tmp_path, files)
    assert memory_clock(root) == MemoryClock(3200.0, None, 4266.0)
    assert gpu_clocks(root) == {"gpu-gpc-0": Clock(1575.0, 1575.0, 1575.0)}


def test_orins_memory_clock_is_roots(tmp_path: Path) -> None:
    root = write(tmp_path, ORIN | {"sys/kernel/nvpmodel_clk_cap/emc": "3199000000\n"})
    clock = memory_clock(root)
    assert clock.mhz is None and clock.most_mhz == 3199.0
    assert clock.why == (
        "only root may read it: sudo cat /sys/kernel/debug/bpmp/debug/clk/emc/rate, or sudo jetson_clocks --show"
    )
    write(root, {"sys/kernel/debug/bpmp/debug/clk/emc/rate": "2133000000\n"})  # as root
    assert memory_clock(root).mhz == 2133.0 and memory_clock(root).why is None


@pytest.mark.parametrize("text", ["", "fast\n", "-1\n", "0\n"])
def test_a_clock_that_is_garbled_is_none(tmp_path: Path, text: str) -> None:
    root = write(tmp_path, ORIN | {"sys/class/devfreq/17000000.gpu/cur_freq": text})
    assert gpu_clocks(root) == {} and memory_clock(root).mhz is None


def test_the_cpus_clock_is_the_mean_of_its_cores(tmp_path: Path) -> None:
    """An Orin's clusters have clocks of their own; a core that is off has no cpufreq folder."""
    cpu = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_{}"
    files = {cpu.format(core, "cur_freq"): f"{khz}\n" for core, khz in ((0, 1510400), (1, 1510400), (4, 729600))}
    files |= {cpu.format(0, "min_freq"): "115200\n", cpu.format(0, "max_freq"): "1510400\n"}
    files |= {cpu.format(4, "max_freq"): "1984000\n", cpu.format(0, "governor"): "schedutil\n"}
    root = write(tmp_path, ORIN | files | {"sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n"})
    assert cpu_clock(root) == Clock((1510.4 + 1510.4 + 729.6) / 3, 115.2, 1984.0)
    assert clocks_mhz(root) == {"cpu": pytest.approx(1250.1333), "17000000.gpu": 306.0}
    described = describe_machine(root)
    assert described["clocks"]["cpu"]["most_mhz"] == 1984.0 and described["governor"] == "schedutil"
    assert cpu_clock(tmp_path / "pc") is None and clocks_mhz(tmp_path / "pc") == {}


def test_they_stand_in_the_record(tmp_path: Path) -> None:
    root = write(tmp_path, ORIN | {"sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n"})
    clocks = describe_machine(root)["clocks"]
    assert clocks["gpu"]["17000000.gpu"]["mhz"] == 306.0 and "root" in clocks["memory"]["why"]
    assert describe_machine(tmp_path / "pc")["clocks"] == {
        "cpu": None,
        "gpu": {},
        "memory": {"mhz": None, "least_mhz": None, "most_mhz": None, "why": "not a Jetson"},
    }
