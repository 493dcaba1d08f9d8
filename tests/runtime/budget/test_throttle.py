"""Clocks that a machine lowers, on made-up /sys trees and a clock of the test's own."""

from pathlib import Path

from edgeprune.base.clocks import clock_limits_mhz
from edgeprune.runtime.budget.throttle import Throttling


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_limits_are_those_of_cpus_gpu_and_memory(tmp_path: Path) -> None:
    write(tmp_path / "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "2201600\n")
    write(tmp_path / "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq", "what is this")
    for name, value in (("cur_freq", "306000000"), ("min_freq", "306000000"), ("max_freq", "1300500000")):
        write(tmp_path / "sys/class/devfreq/17000000.gpu" / name, value)
    write(tmp_path / "sys/kernel/nvpmodel_clk_cap/emc", "3199000000")
    assert clock_limits_mhz(tmp_path) == {"policy0": 2201.6, "17000000.gpu": 1300.5, "memory": 3199.0}
    assert clock_limits_mhz(tmp_path / "elsewhere") == {}


def test_a_limit_that_falls_is_seen_once_and_one_that_rises_is_not() -> None:
    limits, clock = {"policy0": 2000.0, "gpu": 1300.0}, [0.0]
    throttling = Throttling(lambda: limits, lambda: clock[0])

    def after(seconds: float, **changed: float) -> tuple[str, float] | None:
        clock[0] += seconds
        limits.update(changed)
        return throttling.slower()

    assert after(2.0) is None
    assert after(2.0, policy0=1000.0, gpu=1000.0) == ("policy0", 2.0)
    assert after(2.0) is None
    assert after(2.0, policy0=2000.0) is None
    assert after(2.0, gpu=980.0) is None  # 2%: no throttling
    assert after(0.5, gpu=400.0) is None  # too early to look again
    assert after(0.6) == ("gpu", 980.0 / 400.0)


def test_a_clock_that_cannot_be_read_any_more_is_no_throttling() -> None:
    limits, clock = {"policy0": 2000.0, "gpu": 1300.0}, [0.0]
    throttling = Throttling(lambda: limits, lambda: clock[0])
    clock[0] = 5.0
    del limits["gpu"]
    assert throttling.slower() is None
    limits.clear()
    clock[0] = 10.0
    assert throttling.slower() is None
