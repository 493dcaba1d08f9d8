"""What `doctor` finds on a Jetson with everything, on one where parts are missing, and on a machine that is none."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeprune import doctor
from edgeprune.doctor import examine
from edgeprune.engines import cuda
from tests.engines.fake_cuda import FakeCudart
from tests.engines.jetson import Jetson, jetson

__all__ = ["jetson"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(folder))
    monkeypatch.setattr(doctor, "POWER_S", 0.0)
    return folder


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


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
    }
    for channel, (label, values) in enumerate(rails.items(), 1):
        millivolts, milliamperes = values.split()
        files |= {
            f"{hwmon}/in{channel}_label": label,
            f"{hwmon}/in{channel}_input": millivolts,
            f"{hwmon}/curr{channel}_input": milliamperes,
        }
    return write(root, files | {name.replace("__", "/"): content for name, content in others.items()})


def found(root: Path) -> dict[str, dict[str, Any]]:
    return {row["what"]: row for row in examine(root)}


def test_a_jetson_with_everything(jetson: Jetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "power_mode", lambda root: "NV Power Mode: MAXN_SUPER 2")
    monkeypatch.setattr(doctor, "load_gst", lambda: SimpleNamespace(version_string=lambda: "GStreamer 1.20.3"))
    rows = found(orin_nano(tmp_path / "root"))
    assert rows["board"]["found"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert rows["JetPack"]["found"] == "6.1 or 6.2 (L4T 36.4.3)"
    assert rows["TensorRT"]["found"] == jetson.trt.__version__
    assert rows["CUDA"]["found"] == "12.6, GPU sm_87, 8 multiprocessors"
    assert rows["GStreamer"]["found"] == "GStreamer 1.20.3"
    assert rows["cameras"]["found"] == "/dev/video0"
    assert "VDD_IN 4.0 W" in rows["power sensor"]["found"] and "total of VDD_IN" in rows["power sensor"]["found"]
    assert rows["GPU clock"]["found"] == "17000000.gpu 306 of 1020 MHz"
    assert rows["memory"]["found"] == "5.2 GB free"
    assert not [row for row in rows.values() if row["ok"] is False]


def test_a_jetson_where_parts_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = "# R35 (release), REVISION: 5.0, GCID: 1\n"
    root = orin_nano(tmp_path / "root", etc__nv_tegra_release=old, proc__meminfo="MemAvailable: 900000 kB\n")
    monkeypatch.setattr(doctor, "power_mode", lambda root: "NV Power Mode: 7W 1")

    def nothing_loads(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda.ctypes, "CDLL", nothing_loads)
    rows = found(root)
    missing = {name: row["remedy"] for name, row in rows.items() if row["ok"] is False}
    assert missing["JetPack"] == "flash JetPack 6.1 or later"
    assert missing["TensorRT"].startswith("it comes with JetPack: `sudo apt install nvidia-jetpack`")
    assert "nvidia-jetpack" in missing["CUDA"] and "python3-gi" in missing["GStreamer"]
    assert missing["memory"].startswith("compiling may need 2 GB")
    assert rows["power mode"]["remedy"] == "for the full clocks: sudo nvpmodel -m 0, then sudo jetson_clocks"


def test_a_tensorrt_that_is_too_old(jetson: Jetson, tmp_path: Path) -> None:
    jetson.restart("8.6.2", FakeCudart())
    row = found(orin_nano(tmp_path / "root"))["TensorRT"]
    assert row["ok"] is False and row["found"] == "8.6.2" and "10.3 or later" in row["remedy"]


def test_a_machine_that_is_no_jetson(tmp_path: Path) -> None:
    rows = found(tmp_path)
    assert rows["board"]["found"].startswith("not a Jetson (") and rows["board"]["ok"] is None
    assert rows["JetPack"]["found"] == "none: not a Jetson"
    assert rows["TensorRT"]["ok"] is None and rows["ONNX Runtime"]["ok"] is True
    assert rows["power sensor"]["found"].startswith("no energy sensor")
    assert [name for name, row in rows.items() if row["ok"] is False] == []


def test_a_cache_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "file"))
    row = found(tmp_path)["cache"]
    assert row["ok"] is False and row["found"].startswith("cannot write compiled engines to")


@pytest.mark.parametrize(
    ("built", "ok"), [("  GStreamer:                   YES (1.20.3)", True), ("GStreamer: NO", False)]
)
def test_an_opencv_that_hides_jetpacks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: str, ok: bool
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(getBuildInformation=lambda: built))
    row = found(orin_nano(tmp_path / "root"))["OpenCV"]
    assert row["ok"] is ok and ("uninstall opencv-python" in row["remedy"]) is not ok
