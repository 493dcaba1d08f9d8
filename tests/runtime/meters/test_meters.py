import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.bundle.runtime_spec import Power
from edgeprune.runtime.meters import SENSORS, Energy, NoSensor, measure_idle, meters, open_meter
from edgeprune.runtime.meters.meter import NotHere
from edgeprune.runtime.preparing import open_sensor
from tests import bundles

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


# --- INA3221 ---


def test_orin_nano_has_an_input_rail(ina3221: Callable[..., Path]) -> None:
    energy = measure("auto", ina3221(**ORIN_NANO))
    assert watts(energy) == pytest.approx({"VDD_IN": 5.0, "VDD_CPU_GPU_CV": 1.5, "VDD_SOC": 1.0})
    assert energy.total_of == ("VDD_IN",) and energy.total_j == pytest.approx(energy.joules["VDD_IN"])
    assert energy.status == "measured by INA3221, total = VDD_IN"
    assert energy.samples >= 2 and energy.sampling_hz is not None


def test_agx_orin_sums_its_rails_and_says_so(ina3221: Callable[..., Path]) -> None:
    energy = measure("ina3221", ina3221(**AGX_ORIN))
    assert energy.total_j == pytest.approx(energy.seconds * (4 + 2 + 3 + 1))
    assert set(energy.total_of) == set(AGX_ORIN)
    assert energy.status.endswith("total = VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 + VDDQ_VDD2_1V8AO")


def test_how_often_the_chip_renews_its_values_is_said(ina3221: Callable[..., Path]) -> None:
    """It averages meanwhile: readings at a higher rate see the same value again."""
    root = ina3221(**AGX_ORIN)
    for chip, ms in ((0, "35"), (1, "280")):
        (folder,) = root.glob(f"sys/bus/i2c/drivers/ina3221/1-004{chip}/hwmon/*")
        (folder / "update_interval").write_text(f"{ms}\n")
    assert measure("ina3221", root).status.endswith("VDDQ_VDD2_1V8AO, renewed every 280 ms")
    (folder / "update_interval").write_text("fast\n")
    assert measure("ina3221", root).status.endswith("VDDQ_VDD2_1V8AO")


def test_thor_has_its_input_on_an_ina238(ina3221: Callable[..., Path]) -> None:
    root = ina3221(VDD_GPU=(12000, 500), VDD_CPU_SOC_MSS=(12000, 250), VIN_SYS_5V0=(5000, 400))
    folder = root / "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon0"
    folder.mkdir(parents=True)
    (folder / "power1_input").write_text("30000000\n")  # microwatts
    energy = measure("auto", root)
    assert watts(energy) == pytest.approx({"VIN": 30.0, "VDD_GPU": 6.0, "VDD_CPU_SOC_MSS": 3.0, "VIN_SYS_5V0": 2.0})
    assert energy.total_of == ("VIN",)


def test_older_kernels(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    folder.mkdir(parents=True)
    for name, text in {"rail_name_0": "VDD_IN", "in_voltage0_input": "5000", "in_current0_input": "800"}.items():
        (folder / name).write_text(text)
    assert watts(measure("ina3221", tmp_path)) == pytest.approx({"VDD_IN": 4.0})


def test_target_names_rails_and_total(ina3221: Callable[..., Path]) -> None:
    energy = measure("ina3221", ina3221(**AGX_ORIN), rails=["VDD_CPU_CV"], total_of=["VDD_CPU_CV", "VDD_GPU_SOC"])
    assert watts(energy) == pytest.approx({"VDD_CPU_CV": 2.0, "VDD_GPU_SOC": 4.0})
    assert energy.total_j == pytest.approx(energy.seconds * 6)


def test_unknown_board_has_no_total(ina3221: Callable[..., Path]) -> None:
    energy = measure("ina3221", ina3221(VDD_A=(5000, 100), VDD_B=(5000, 100)))
    assert energy.total_j is None and energy.total_of == ()
    assert set(energy.joules) == {"VDD_A", "VDD_B"}
    assert "which of VDD_A, VDD_B make it? name them in the target file" in energy.status


def test_rail_that_is_not_there(ina3221: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"INA3221 has no rail 'VDD_INN'; rails: VDD_IN, .*did you mean 'VDD_IN'"):
        open_meter("ina3221", ina3221(**ORIN_NANO), rails=["VDD_INN"])


@pytest.mark.parametrize("label", ["NC", "nc", "", " \n"])
def test_a_channel_that_is_not_connected_is_no_rail(ina3221: Callable[..., Path], label: str) -> None:
    root = ina3221(**{**ORIN_NANO, "VDD_SOC": (0, 0)})
    (path,) = [path for path in root.rglob("in*_label") if path.read_text().strip() == "VDD_SOC"]
    path.write_text(label)
    assert set(measure("ina3221", root).joules) == {"VDD_IN", "VDD_CPU_GPU_CV"}


def test_a_channel_that_is_switched_off_is_no_rail(ina3221: Callable[..., Path]) -> None:
    """The driver answers with an error there (ENODATA)."""
    root = ina3221(**ORIN_NANO)
    for enabled in (1, 2, 3):
        (next(root.rglob("in1_label")).parent / f"in{enabled}_enable").write_text("0" if enabled == 3 else "1")
    assert set(measure("ina3221", root).joules) == {"VDD_IN", "VDD_CPU_GPU_CV"}


def test_a_chip_without_a_connected_channel_is_no_sensor(ina3221: Callable[..., Path]) -> None:
    with pytest.raises(NoSensor, match="no INA3221 under"):
        open_meter("ina3221", ina3221(NC=(0, 0)))


def test_rails_of_one_name_are_told_apart(ina3221: Callable[..., Path]) -> None:
    """By the chip's address, which is the same at every boot; the plain name would mean one of them, and nobody knows which."""
    root = ina3221(VDD_IN=(5000, 1000), A=(5000, 10), B=(5000, 20), VDD_SECOND=(12000, 100))
    (path,) = [path for path in root.rglob("in*_label") if path.read_text().strip() == "VDD_SECOND"]
    path.write_text("VDD_IN\n")
    energy = measure("ina3221", root)
    assert watts(energy) == pytest.approx({"VDD_IN@1-0040.1": 5.0, "A": 0.05, "B": 0.1, "VDD_IN@1-0041.1": 1.2})
    assert energy.total_j is None and "total unknown" in energy.status
    assert measure("ina3221", root, total_of=["VDD_IN@1-0041.1"]).total_of == ("VDD_IN@1-0041.1",)
    with pytest.raises(NoSensor, match=r"has no rail 'VDD_IN'; rails: VDD_IN@1-0040\.1, "):
        open_meter("ina3221", root, total_of=["VDD_IN"])


def test_a_chip_in_both_layouts_is_one(ina3221: Callable[..., Path]) -> None:
    root = ina3221(**ORIN_NANO)
    folder = root / "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0"
    folder.mkdir(parents=True)
    for name, text in {"rail_name_0": "VDD_IN", "in_voltage0_input": "5000", "in_current0_input": "1000"}.items():
        (folder / name).write_text(text)
    assert measure("ina3221", root).total_of == ("VDD_IN",)


def test_two_inputs_on_ina238_are_told_apart(tmp_path: Path) -> None:
    for address, microwatts in (("2-0044", 30_000_000), ("2-0045", 2_000_000)):
        folder = tmp_path / f"sys/bus/i2c/drivers/ina238/{address}/hwmon/hwmon0"
        folder.mkdir(parents=True)
        (folder / "power1_input").write_text(f"{microwatts}\n")
    assert watts(measure("ina3221", tmp_path)) == pytest.approx({"VIN@2-0044": 30.0, "VIN@2-0045": 2.0})


@pytest.mark.parametrize("text", ["", "busy", "nan", "inf", "\xff"])
def test_a_reading_that_is_garbled(ina3221: Callable[..., Path], text: str) -> None:
    root = ina3221(**ORIN_NANO)
    path = next(root.rglob("curr1_input"))
    meter = open_meter("ina3221", root)
    meter.start()
    path.write_text(text, encoding="latin-1")
    energy = meter.stop()
    assert energy.status.startswith("no energy sensor: ina3221 stopped answering") and energy.joules == {}
    with pytest.raises(NoSensor, match=r"INA3221 is there but can't be read \(.*\)$"):
        open_meter("ina3221", root)


def test_noise_below_zero_stays(ina3221: Callable[..., Path]) -> None:
    assert watts(measure("ina3221", ina3221(VDD_IN=(5000, -8))))["VDD_IN"] == pytest.approx(-0.04)


def test_sensor_that_vanishes(ina3221: Callable[..., Path]) -> None:
    root = ina3221(**ORIN_NANO)
    meter = open_meter("ina3221", root)
    meter.start()
    for file in root.rglob("curr1_input"):
        file.unlink()
    energy = meter.stop()
    assert energy.status.startswith("no energy sensor: ina3221 stopped answering") and energy.total_j is None


# --- RAPL ---


def set_uj(root: Path, key: str, value: int) -> None:
    (root / f"sys/class/powercap/intel-rapl:{key}/energy_uj").write_text(f"{value}\n")


def test_packages_are_summed_and_their_parts_are_not(rapl: Callable[..., Path]) -> None:
    domains = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "1:0": "core", "2": "psys"}
    root = rapl(**domains)
    meter = open_meter("auto", root)
    meter.start()
    set_uj(root, "0", 4_000_000)
    set_uj(root, "0:0", 2_500_000)
    set_uj(root, "1", 3_000_000)
    set_uj(root, "2", 9_000_000)
    energy = meter.stop()
    assert energy.joules == pytest.approx(
        {"package-0": 3, "package-0/core": 1.5, "package-0/dram": 0, "package-1": 2, "package-1/core": 0, "psys": 8}
    )
    assert energy.total_of == ("package-0", "package-1") and energy.total_j == pytest.approx(5.0)
    assert energy.status.startswith("measured by RAPL, total = package-0 + package-1")
    assert energy.sampling_hz is None


def test_counter_wraps_at_its_range(rapl: Callable[..., Path]) -> None:
    root = rapl(**{"0": "package-0"})
    set_uj(root, "0", 99_000_000)
    meter = open_meter("rapl", root)
    meter.start()
    set_uj(root, "0", 2_000_000)
    assert meter.stop().total_j == pytest.approx(3.0)


def test_counter_that_was_reset_did_not_wrap(rapl: Callable[..., Path]) -> None:
    """As after a suspend: 1 J -> 0.5 J of 262144 J is no wrap."""
    root = rapl(**{"0": "package-0"})
    (root / "sys/class/powercap/intel-rapl:0/max_energy_range_uj").write_text("262143328850\n")
    meter = open_meter("rapl", root)
    meter.start()
    set_uj(root, "0", 500_000)
    energy = meter.stop()
    assert energy.total_j is None and "the energy counter of package-0 was reset" in energy.status


DAMAGED = [
    (name, content) for name in ("energy_uj", "max_energy_range_uj") for content in (None, "", "many\n", "-5\n", "\xff")
]


@pytest.mark.parametrize(
    ("name", "content"), [*DAMAGED, ("max_energy_range_uj", "0\n"), ("name", None), ("name", ""), ("name", "\xff")]
)
def test_rapl_with_a_damaged_file(
    rapl: Callable[..., Path], nvml: Callable[..., Any], name: str, content: str | None
) -> None:
    """One line that names the file; `auto` goes on to the next meter."""
    root = rapl(**{"0": "package-0"})
    path = root / f"sys/class/powercap/intel-rapl:0/{name}"
    path.unlink() if content is None else path.write_text(content, encoding="latin-1")
    with pytest.raises(NoSensor, match=f"RAPL is there but .*intel-rapl:0/{name} can't be read"):
        open_meter("rapl", root)
    nvml([], [])
    assert "can't be read" in measure("auto", root).status


@pytest.mark.parametrize("content", [None, "", "many\n", "-5\n"])
def test_rapl_that_is_damaged_while_it_measures(rapl: Callable[..., Path], content: str | None) -> None:
    root = rapl(**{"0": "package-0"})
    meter = open_meter("rapl", root)
    meter.start()
    path = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    path.unlink() if content is None else path.write_text(content)
    energy = meter.stop()
    assert energy.status.startswith("no energy sensor: rapl stopped answering") and energy.total_j is None


def test_domains_of_one_name_are_told_apart(rapl: Callable[..., Path]) -> None:
    root = rapl(**{"0": "package-0", "0:0": "core", "1": "package-0", "1:0": "core", "0:1": "core"})
    meter = open_meter("rapl", root)
    meter.start()
    set_uj(root, "0", 3_000_000)
    set_uj(root, "1", 2_000_000)
    set_uj(root, "0:1", 1_250_000)
    energy = meter.stop()
    first, second = "package-0@intel-rapl:0", "package-0@intel-rapl:1"
    assert energy.joules == pytest.approx({
        first: 2, f"{first}/core@intel-rapl:0:0": 0, f"{first}/core@intel-rapl:0:1": 0.25, second: 1, f"{second}/core": 0,
    })  # fmt: skip
    assert energy.total_of == (first, second) and energy.total_j == pytest.approx(3.0)


def test_rapl_for_root_only(rapl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = rapl(**{"0": "package-0"})
    read_text = Path.read_text

    def as_a_user(path: Path, *arguments: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", as_a_user)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(InputError, match=r"readable by root only; type: sudo chmod a\+r .*intel-rapl:\*/energy_uj"):
        open_meter("rapl", root)
    energy = measure("auto", root)
    assert energy.status.startswith("no energy sensor: RAPL is there but readable by root only; type: sudo chmod a+r")
    assert energy.total_j is None and "INA3221" not in energy.status  # what is not here is nothing to mend


# --- NVML ---


def test_energy_counter_of_a_gpu(nvml: Callable[..., Any], tmp_path: Path) -> None:
    fake = nvml([1000, 500], [None, None])
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


# --- every meter ---


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any sensor."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return tmp_path


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
