"""The temperature of a machine, as fake zones tell it."""

import threading
import time

import pytest

from edgeprune.runtime import thermometer
from edgeprune.runtime.thermometer import Thermometer


def threads() -> int:
    return sum(each.name == "thermometer" for each in threading.enumerate())


def test_the_hottest_zone_is_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([{"cpu": 50.0, "gpu": 61.5}, {"cpu": 70.0}])
    monkeypatch.setattr(thermometer, "PERIOD_S", 0.01)
    monkeypatch.setattr(thermometer, "temperatures_c", lambda: next(given, {}))
    meter, seen = Thermometer({"cpu": 40.0, "gpu": 30.0}), set()
    assert threads() == 1
    deadline = time.monotonic() + 10
    while (now_c := meter.hottest_c) is not None and time.monotonic() < deadline:
        seen.add(now_c)
    assert seen <= {40.0, 61.5, 70.0} and meter.hottest_c is None  # the sensor is gone
    meter.stop()
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == 0


def test_a_machine_without_a_sensor_has_no_thread() -> None:
    meter = Thermometer({})
    assert meter.hottest_c is None and threads() == 0
    meter.stop()
