"""Fake sensor trees under tmp_path, as Linux lays them out, and a fake of pynvml."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def write(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


@pytest.fixture
def ina3221(tmp_path: Path) -> Callable[..., Path]:
    """ina3221(VDD_IN=(mV, mA), ...): a JetPack 6 tree with the rails on as many chips as they need."""

    def make(**rails: tuple[int, int]) -> Path:
        for index, (label, (millivolts, milliamperes)) in enumerate(rails.items()):
            chip, channel = divmod(index, 3)
            folder = tmp_path / f"sys/bus/i2c/drivers/ina3221/1-004{chip}/hwmon/hwmon{4 - chip}"
            number = channel + 1
            write(
                folder,
                {
                    f"in{number}_label": label,
                    f"in{number}_input": millivolts,
                    f"curr{number}_input": milliamperes,
                    "in7_label": "sum of shunt voltages",
                    "in7_input": 99999,
                    "curr4_input": 99999,
                },
            )
        return tmp_path

    return make


@pytest.fixture
def rapl(tmp_path: Path) -> Callable[..., Path]:
    """rapl(**{"0": "package-0", "0:1": "dram", ...}): a powercap tree whose counters all stand at 1 J of 100 J."""

    def make(**domains: str) -> Path:
        for key, name in domains.items():
            folder = tmp_path / f"sys/class/powercap/intel-rapl:{key}"
            write(folder, {"name": name, "energy_uj": 1_000_000, "max_energy_range_uj": 100_000_000})
        write(tmp_path / "sys/class/powercap/intel-rapl-mmio:0", {"name": "package-0", "energy_uj": 5})
        return tmp_path

    return make


BUS_IDS = [b"0000:01:00.0", b"0000:41:00.0"]  # of gpu0 and gpu1


class FakeNvml(ModuleType):
    """As much of pynvml as the meter uses: GPUs with a counter in mJ, or without one, and their power in mW."""

    class NVMLError(Exception):
        pass

    def __init__(self, counters_mj: list[int | None], power_mw: list[int | None], *, driver: bool = True):
        super().__init__("pynvml")
        self.counters_mj, self.power_mw, self.driver = counters_mj, power_mw, driver

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("NVML Shared Library Not Found")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.counters_mj)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: bytes) -> int:
        if bus_id not in BUS_IDS:
            raise self.NVMLError("Not Found")
        return BUS_IDS.index(bus_id)

    def nvmlDeviceGetIndex(self, handle: int) -> int:
        return handle

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self._known(self.counters_mj[handle])

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._known(self.power_mw[handle])

    def _known(self, value: int | None) -> int:
        if value is None:
            raise self.NVMLError("Not Supported")
        return value


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """nvml(counters_mj, power_mw, driver=): puts a FakeNvml in pynvml's place and returns it."""

    def install(*arguments: Any, **options: Any) -> FakeNvml:
        fake = FakeNvml(*arguments, **options)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return install


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any sensor."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return tmp_path
