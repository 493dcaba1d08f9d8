"""The rails of a Jetson: INA3221, and what stands beside it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.meters import NoSensor, open_meter
from tests.runtime.meters.measured import AGX_ORIN, ORIN_NANO, measure, watts


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
