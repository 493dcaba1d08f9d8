"""What all meters share: how one is chosen, what it says without a sensor, idle power."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.meters import SENSORS, measure_idle, meters, open_meter
from edgeprune.runtime.meters.meter import NotHere
from tests.runtime.meters.measured import AGX_ORIN, ORIN_NANO, measure


def test_no_sensor_is_a_value(bare: Path) -> None:
    energy = measure("auto", bare)
    kinds = ", ".join(what for what, _ in SENSORS.values())
    assert energy.status == f"no energy sensor: none of {kinds} is here" and "INA3221 (Jetson)" in kinds
    assert (energy.joules, energy.total_j, energy.total_of, energy.samples) == ({}, None, (), 0)
    assert measure_idle(open_meter("auto", bare), 0.0).rails_w == {}
    assert energy.above_idle_j({}) is None
    meter = open_meter("auto", bare)
    meter.start()
    assert meter.watts() is None


@pytest.mark.parametrize("name", SENSORS)
def test_meter_chosen_by_name_must_be_there(bare: Path, name: str) -> None:
    with pytest.raises(InputError):
        open_meter(name, bare)


def test_none_even_where_there_is_a_sensor(ina3221: Callable[..., Path]) -> None:
    assert measure("none", ina3221(**ORIN_NANO)).status == "no energy sensor: none was asked for"


def test_unknown_meter(bare: Path) -> None:
    with pytest.raises(InputError, match=r"unknown energy meter 'rappl'; choices: auto, .*; did you mean 'rapl'"):
        open_meter("rappl", bare)


@pytest.mark.parametrize("name", ["auto", *meters()])
def test_every_meter_carries_its_name_and_measures_twice(
    ina3221: Callable[..., Path], rapl: Callable[..., Path], nvml: Callable[..., Any], name: str
) -> None:
    nvml([1000], [1000])
    ina3221(**ORIN_NANO)
    try:
        meter = open_meter(name, rapl(**{"0": "package-0"}))
    except NotHere:
        pytest.skip(f"conftest.py has no fake tree of {name}")
    assert meter.name == ("ina3221" if name == "auto" else name)
    for _ in range(2):
        meter.start()
        assert meter.watts() is None or meter.watts() >= 0  # type: ignore[operator]
        assert set(meter.stop().total_of) <= {"VDD_IN", "package-0", "gpu0"}


def test_power_now_is_that_of_the_total(ina3221: Callable[..., Path]) -> None:
    """Of an AGX Orin the four rails that are summed; where no total is known there is none."""
    root = ina3221(**AGX_ORIN)
    for total_of, watts_now in ((None, 10.0), (["VDD_GPU_SOC"], 4.0), ([], None)):
        meter = open_meter("ina3221", root, None, total_of)
        meter.start()
        limit_s = time.monotonic() + 10
        while (found := meter.watts()) is None and watts_now is not None and time.monotonic() < limit_s:
            time.sleep(0.005)
        assert found == (None if watts_now is None else pytest.approx(watts_now))
        meter.stop()


def test_idle_is_subtracted_from_the_total(ina3221: Callable[..., Path]) -> None:
    root = ina3221(**AGX_ORIN)
    meter = open_meter("ina3221", root)
    idle = measure_idle(meter, 0.02)
    idle_w = idle.rails_w
    assert idle.total_w == pytest.approx(10)
    assert idle_w == pytest.approx({"VDD_GPU_SOC": 4, "VDD_CPU_CV": 2, "VIN_SYS_5V0": 3, "VDDQ_VDD2_1V8AO": 1})
    for file in root.rglob("curr*_input"):
        file.write_text(str(2 * int(file.read_text())))  # under load every rail takes twice as much
    meter.start()
    energy = meter.stop()
    assert energy.total_j == pytest.approx(20 * energy.seconds)
    assert energy.above_idle_j(idle_w) == pytest.approx(10 * energy.seconds)
