"""What `doctor` finds on a Jetson with everything, on one where parts are missing, and on a machine that is none."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeprune.runtime import doctor
from edgeprune.runtime.doctor import Finding, examine
from edgeprune.runtime.engines import cuda
from tests.power_modes import BOARDS, configuration, write
from tests.runtime.engines.fake_cuda import FakeCudart
from tests.runtime.engines.jetson import Jetson, jetson

__all__ = ["jetson"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(folder))
    monkeypatch.setattr(doctor, "POWER_S", 0.0)
    return folder


def orin_nano(root: Path, **others: str) -> Path:
    """The files of an Orin Nano with JetPack 6.2 (as read from NVIDIA's documents, see platform notes in the energy tests)."""
    hwmon = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    rails = {"VDD_IN": "5000 800", "VDD_CPU_GPU_CV": "5000 300", "VDD_SOC": "5000 200"}
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "proc/meminfo": "MemTotal: 7800000 kB\nMemAvailable: 5200000 kB\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
        "dev/video0": "",
        "etc/nvpmodel.conf": configuration(BOARDS["orin-nano"].modes),
        "sys/kernel/nvpmodel_clk_cap/emc": "3199000000\n",
    }
    for channel, (label, values) in enumerate(rails.items(), 1):
        millivolts, milliamperes = values.split()
        files |= {
            f"{hwmon}/in{channel}_label": label,
            f"{hwmon}/in{channel}_input": millivolts,
            f"{hwmon}/curr{channel}_input": milliamperes,
        }
    return write(root, files | {name.replace("__", "/"): content for name, content in others.items()})


def in_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, number: int) -> None:
    """A program `nvpmodel` that says so."""
    program = tmp_path / "bin/nvpmodel"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf 'NV Power Mode: {name}\\n{number}\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def found(root: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(root)}


def test_a_jetson_with_everything(jetson: Jetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_mode(monkeypatch, tmp_path, "MAXN_SUPER", 2)
    gst = SimpleNamespace(version_string=lambda: "GStreamer 1.20.3", ElementFactory=SimpleNamespace(find=str))
    monkeypatch.setattr(doctor, "load_gst", lambda: gst)
    # JetPack's own, whatever is installed here
    built = SimpleNamespace(getBuildInformation=lambda: "    GStreamer:                   YES (1.20.3)")
    monkeypatch.setitem(sys.modules, "cv2", built)
    rows = found(orin_nano(tmp_path / "root"))
    assert rows["OpenCV"].found == "with GStreamer"
    assert rows["board"].found == "NVIDIA Jetson Orin Nano Developer Kit"
    assert rows["JetPack"].found == "6.2 (L4T 36.4.3)"
    assert rows["TensorRT"].found == jetson.trt.__version__
    assert rows["CUDA"].found == "12.6, GPU sm_87, 8 multiprocessors"
    assert rows["GStreamer"].found == "GStreamer 1.20.3"
    assert rows["cameras"].found == "/dev/video0"
    assert "VDD_IN 4.0 W" in rows["power sensor"].found and "total of VDD_IN" in rows["power sensor"].found
    assert rows["power mode"] == Finding("power mode", "MAXN_SUPER (mode 2)", True)
    assert rows["GPU clock"].found == "17000000.gpu 306 of 1020 MHz"
    assert rows["memory clock"].found == "not readable, the mode allows 3199 MHz"
    assert rows["memory clock"].remedy.startswith("only root may read it: sudo cat /sys/kernel/debug/")
    assert rows["memory"].found == "5.2 GB free"
    assert not [row for row in rows.values() if row.ok is False]


def test_a_gstreamer_without_jetpacks_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gst = SimpleNamespace(ElementFactory=SimpleNamespace(find=lambda name: name if name == "appsink" else None))
    monkeypatch.setattr(doctor, "load_gst", lambda: gst)
    row = doctor._gstreamer(orin_nano(tmp_path / "root"))
    assert (row.ok, row.found) == (False, "GStreamer has no nvarguscamerasrc, nvvidconv")
    assert row.remedy == "on a Jetson type: sudo apt install nvidia-l4t-gstreamer"


def test_a_jetson_where_parts_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = "# R35 (release), REVISION: 5.0, GCID: 1\n"
    root = orin_nano(tmp_path / "root", etc__nv_tegra_release=old, proc__meminfo="MemAvailable: 900000 kB\n")
    in_mode(monkeypatch, tmp_path, "7W", 3)

    def nothing_loads(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda.ctypes, "CDLL", nothing_loads)
    rows = found(root)
    missing = {name: row.remedy for name, row in rows.items() if row.ok is False}
    assert missing["JetPack"] == "flash JetPack 6.1 or later"
    assert missing["TensorRT"].startswith("it comes with JetPack: `sudo apt install nvidia-jetpack`")
    assert (
        "nvidia-jetpack" in missing["CUDA"]
        and "sudo apt install python3-gi gir1.2-gstreamer-1.0" in missing["GStreamer"]
    )
    assert missing["memory"].startswith("compiling may need 2 GB")
    assert rows["power mode"].found == "7W (mode 3)"
    assert rows["power mode"].remedy == "its fastest is MAXN_SUPER: sudo nvpmodel -m 2, then sudo jetson_clocks"


@pytest.mark.parametrize(
    ("line", "said", "able"),
    [
        ("# R36 (release), REVISION: 3.0, GCID: 1, BOARD: generic", "6.0 (L4T 36.3.0)", False),
        ("# R36 (release), REVISION: 4.0, GCID: 1, BOARD: generic", "6.1 (L4T 36.4.0)", True),
        ("# R36 (release), REVISION: 4.7, GCID: 1, BOARD: generic", "L4T 36.4.7", True),  # an update without a JetPack
        ("# R36 (release), REVISION: 5.0, GCID: 1, BOARD: generic", "6.2.2 (L4T 36.5.0)", True),
        ("# R38 (release), REVISION: 4.0, GCID: 1, BOARD: generic", "7.1 (L4T 38.4.0)", True),
        ("# R39 (release), REVISION: 2.1, GCID: 1, BOARD: generic", "7.2.1 (L4T 39.2.1)", True),
        ("# R41 (release), REVISION: 0.3, GCID: 1, BOARD: generic", "L4T 41.0.3", True),  # of a day to come
        ("garbled", "unknown release garbled", False),
    ],
)
def test_releases_have_their_names_and_unknown_ones_their_numbers(
    tmp_path: Path, line: str, said: str, able: bool
) -> None:
    row = doctor._jetpack(write(tmp_path, {"etc/nv_tegra_release": f"{line}\n"}))
    assert (row.found, row.ok) == (said, able)


def test_a_tensorrt_that_is_too_old(jetson: Jetson, tmp_path: Path) -> None:
    jetson.restart("8.6.2", FakeCudart())
    row = found(orin_nano(tmp_path / "root"))["TensorRT"]
    assert row.ok is False and row.found == "8.6.2" and "10.3 or later" in row.remedy


def test_a_machine_that_is_no_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    rows = found(tmp_path)
    assert rows["board"].found.startswith("not a Jetson (") and rows["board"].ok is None
    assert rows["JetPack"].found == "none: not a Jetson"
    assert rows["TensorRT"].ok is None and rows["ONNX Runtime"].ok is True
    assert rows["power sensor"].found.startswith("no energy sensor: none of INA3221 (Jetson), RAPL")
    assert not any("nvidia-ml-py" in f"{row}" or "edgeprune[tensorrt]" in f"{row}" for row in rows.values())
    assert [name for name, row in rows.items() if row.ok is False] == []


def test_a_gpus_parts_are_advised_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    rows = found(write(tmp_path, {"proc/driver/nvidia/version": "", "dev/nvidia0": ""}))
    assert "pip install nvidia-ml-py" in rows["power sensor"].found
    assert "edgeprune[tensorrt]" in rows["Torch-TensorRT"].remedy


def test_a_cache_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "file"))
    row = found(tmp_path)["cache"]
    assert row.ok is False and "file', which is no folder" in row.found


@pytest.mark.parametrize(
    ("built", "ok"), [("  GStreamer:                   YES (1.20.3)", True), ("GStreamer: NO", False)]
)
def test_an_opencv_that_hides_jetpacks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: str, ok: bool
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(getBuildInformation=lambda: built))
    row = found(orin_nano(tmp_path / "root"))["OpenCV"]
    assert row.ok is ok and ("uninstall opencv-python" in row.remedy) is not ok
