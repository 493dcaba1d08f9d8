"""NVIDIA GPUs."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeprune.bundle import Bundle
from edgeprune.bundle.runtime_spec import Power
from edgeprune.runtime.meters import NoSensor, open_meter
from edgeprune.runtime.preparing import open_sensor
from tests import bundles
from tests.runtime.meters.conftest import BUS_IDS
from tests.runtime.meters.measured import measure, watts


class FakeDriver:
    """CUDA's, whose device 0 lies on that bus; None: it sees no device."""

    def __init__(self, bus_id: bytes | None):
        self.bus_id = bus_id

    def cuInit(self, flags: ctypes.c_uint) -> int:
        return 0 if self.bus_id else 100  # CUDA_ERROR_NO_DEVICE

    def cuDeviceGet(self, device: Any, ordinal: ctypes.c_int) -> int:
        device._obj.value = ordinal.value + 7
        return 0

    def cuDeviceGetPCIBusId(self, bus_id: Any, size: ctypes.c_int, device: ctypes.c_int) -> int:
        assert self.bus_id and device.value == 7 and size.value > len(self.bus_id)
        bus_id.value = self.bus_id
        return 0


def test_of_several_gpus_the_one_on_which_engines_run_is_the_total(
    nvml: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA_VISIBLE_DEVICES, or another GPU that is slower: CUDA's device 0 is not NVML's."""
    nvml([None, None], [60_000, 200_000])
    for name, bus_id in zip(("gpu0", "gpu1"), BUS_IDS, strict=True):
        monkeypatch.setattr(ctypes, "CDLL", lambda library, at=bus_id: FakeDriver(at))
        energy = measure("nvml", tmp_path)
        assert energy.total_of == (name,) and f"total = {name} (not the whole machine)" in energy.status
        assert set(watts(energy)) == {"gpu0", "gpu1"}


@pytest.mark.parametrize(
    ("driver", "why"),
    [
        (FakeDriver(None), "cuInit answers 100"),
        (FakeDriver(b"0000:ff:00.0"), "Not Found"),
        (OSError("libcuda.so.1: cannot open"), "libcuda.so.1: cannot open"),
    ],
)
def test_of_several_gpus_none_is_taken_for_the_one_that_computes(
    nvml: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: Any, why: str
) -> None:
    nvml([1000, 500], [None, None])

    def load(library: str) -> Any:
        if isinstance(driver, OSError):
            raise driver
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(
        NoSensor, match=rf"NVML finds gpu0, gpu1, and CUDA does not tell .*\({why}\); set CUDA_VISIBLE_DEVICES"
    ):
        open_meter("nvml", tmp_path)
    assert measure("auto", tmp_path).status.startswith("no energy sensor: NVML finds gpu0, gpu1")
    assert open_meter("nvml", tmp_path, None, ["gpu1"]).name == "nvml"
    nvml([1000], [None])
    assert open_meter("nvml", tmp_path).name == "nvml"  # of one GPU there is no question


def test_energy_counter_of_a_gpu(nvml: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = nvml([1000, 500], [None, None])
    monkeypatch.setattr(ctypes, "CDLL", lambda library: FakeDriver(BUS_IDS[0]))
    meter = open_meter("auto", tmp_path)
    meter.start()
    fake.counters_mj[:] = [4500, 700]
    energy = meter.stop()
    assert energy.joules == pytest.approx({"gpu0": 3.5, "gpu1": 0.2})
    assert energy.total_of == ("gpu0",) and energy.total_j == pytest.approx(3.5)
    assert energy.status.startswith("measured by NVML's energy counter") and energy.sampling_hz is None


def test_gpu_without_a_counter_is_sampled(nvml: Callable[..., Any], tmp_path: Path) -> None:
    nvml([None], [60_000])
    energy = measure("nvml", tmp_path)
    assert watts(energy) == pytest.approx({"gpu0": 60.0})
    assert energy.status.startswith("measured by NVML, sampled power") and energy.sampling_hz is not None


def test_counter_reset_by_the_driver_gives_no_number(nvml: Callable[..., Any], tmp_path: Path) -> None:
    fake = nvml([1000], [None])
    meter = open_meter("nvml", tmp_path)
    meter.start()
    fake.counters_mj[0] = 5
    energy = meter.stop()
    assert "the energy counter of gpu0 was reset" in energy.status and energy.total_j is None


def test_gpu_that_is_lost_while_it_is_measured(nvml: Callable[..., Any], tmp_path: Path) -> None:
    fake = nvml([1000], [None])
    meter = open_meter("nvml", tmp_path)
    meter.start()
    fake.counters_mj[0] = None
    assert meter.stop().status == "no energy sensor: nvml stopped answering (Not Supported)"


@pytest.mark.parametrize(
    ("counters", "power", "driver", "message"),
    [
        ([], [], True, "NVML finds no NVIDIA GPU"),
        ([1], [1], False, r"NVML finds no NVIDIA driver \(NVML Shared Library Not Found\)"),
        ([None], [None], True, r"neither energy nor power of gpu0 \(Not Supported\)"),
    ],
)
def test_no_gpu(
    nvml: Callable[..., Any], tmp_path: Path, counters: list[Any], power: list[Any], driver: bool, message: str
) -> None:
    nvml(counters, power, driver=driver)
    with pytest.raises(NoSensor, match=message):
        open_meter("nvml", tmp_path)
    if not driver:  # nor a GPU: installed by whatever, it is no trouble of this machine's
        assert measure("auto", tmp_path).status.startswith("no energy sensor: none of INA3221")


def test_orins_gpu_is_read_by_another_meter(nvml: Callable[..., Any], tmp_path: Path) -> None:
    nvml([None], [None])
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Jetson Orin Nano Developer Kit\0")
    with pytest.raises(NoSensor, match=r"\(Not Supported\); a Jetson's power is read by --meter ina3221$"):
        open_meter("nvml", tmp_path)


def test_the_rails_of_a_board_are_those_of_its_own_meter(nvml: Callable[..., Any], tmp_path: Path) -> None:
    """A Jetson's bundle on a server: the GPU's meter has no VDD_IN, and none is asked of it."""
    nvml([1000], [None])
    bundle = bundles.write_bundle(tmp_path / "bundle")
    for meter, refused in (("ina3221", False), ("nvml", True), ("auto", True)):
        target = bundle.manifest.target.model_copy(update={"power": Power(meter=meter, total=["VDD_IN"])})
        changed = Bundle(bundle.folder, bundle.manifest.model_copy(update={"target": target}))
        if refused:
            with pytest.raises(NoSensor, match="NVML has no rail 'VDD_IN'"):
                open_sensor(changed, "nvml")
        else:
            assert open_sensor(changed, "nvml").name == "nvml"


@pytest.mark.parametrize("sign", ["proc/driver/nvidia/version", "dev/nvidia0"])
def test_what_reads_a_gpu_is_advised_where_there_is_one(bare: Path, sign: str) -> None:
    with pytest.raises(NoSensor, match=r"^no NVIDIA GPU \(none of "):
        open_meter("nvml", bare)
    (bare / sign).parent.mkdir(parents=True)
    (bare / sign).touch()
    with pytest.raises(NoSensor, match=r"type: pip install nvidia-ml-py$"):
        open_meter("nvml", bare)
    assert measure("auto", bare).status == "no energy sensor: NVML needs nvidia-ml-py; type: pip install nvidia-ml-py"
