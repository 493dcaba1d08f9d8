"""`energy` as a user types it, on a bundle whose graphs take microseconds and a meter that is a shell's loop."""

import csv
import json
from pathlib import Path

import pytest

from edgeprune.cli.energy import show_energy
from edgeprune.evaluate import energy
from edgeprune.evaluate.energy_table import EnergyResult, EnergyRow
from edgeprune.runtime import meters
from tests import bundles
from tests.cli.conftest import Type
from tests.cli.test_bad_input import assert_one_line
from tests.evaluate.devices import Device, Graph, SampledDevice

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What to type for a meter that says 5 W again and again."""
    monkeypatch.setattr(energy, "SETTLE_S", 0.0)
    monkeypatch.setattr(energy, "WARM_UP_S", 0.05)
    monkeypatch.setattr(energy, "LEAST_SAMPLES", 2)  # a busy machine starts the loop's `sleep` late
    program = tmp_path / "plug-watts"
    program.write_text("#!/bin/sh\nwhile :; do echo 5; sleep 0.01; done\n")
    program.chmod(0o700)
    return f"command:{program}"


def test_the_table(edgeprune: Type, tiny: Path, plug: str) -> None:
    words = ("--bundle", tiny, "--meter", plug, "--seconds", 0.6, "--rounds", 1, "--precision", "int8", "--out", "out")
    said = edgeprune("energy", *words)
    assert said.code == 0 and "round 1 of 1" in said.err
    lines = said.out.splitlines()
    assert lines[0].split() == [
        "bucket",
        "precision",
        "p50",
        "ms",
        "frames/s",
        "W",
        "mJ/frame",
        "min",
        "max",
        "above",
        "idle",
    ]
    assert [line.split()[0] for line in lines[2:7]] == ["dense", *bundles.BUCKETS, "auto"]
    assert lines[7].startswith("measured by what plug-watts prints (a command of the user's); ")
    assert "idle, graphs open: 5.00 W before, 5.00 W after (+0.0%)" in said.out
    content = json.loads(Path("out/energy.json").read_text())
    rows = {row["bucket"]: row["figures"] for row in content["rows"]}
    for row in rows.values():
        assert row["mj_per_frame"] == pytest.approx(5000 / row["fps"]) and row["watts"] == pytest.approx(5)
        assert row["mj_above_idle"] == pytest.approx(0, abs=1e-9 * row["mj_per_frame"] + 1e-9)
        assert row["seconds"] >= 0.6 and row["samples"] >= 2
    assert sum(rows["auto"]["buckets"].values()) == rows["auto"]["frames"]
    assert {"power_mode", "governor", "clocks"} <= set(content["machine"]) and content["total_of"] == ["power"]
    with Path("out/energy.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["mj_per_frame"]) for row in table] == [row["mj_per_frame"] for row in rows.values()]
    assert {"rails.power.mj_above_idle", "mj_spread.least", "latency_ms.p50", "idle_before_w"} <= set(table[0])


def test_one_object_and_frames_of_a_folder(edgeprune: Type, tiny: Path, plug: str, frames: Path) -> None:
    words = ("--bundle", tiny, "--meter", plug, "--seconds", 0.6, "--rounds", 1, "--camera", frames, "--json")
    content = json.loads(edgeprune("energy", *words, "--engine", "onnxruntime", "--threads", 1).out)
    assert content["source"] == f"6 frames of {frames}" and content["frames"] == 6
    assert content["threads"] == content["engine"]["threads"] == 1 and content["engine"]["engine"] == "onnxruntime"
    assert {row["engine"] for row in content["rows"]} == {"onnxruntime"}
    assert content["idle"]["total_before_w"] == pytest.approx(5) and content["window_s"] == 0.6


def test_without_a_sensor_there_is_no_table(edgeprune: Type, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "SENSORS", {"rapl": meters.SENSORS["rapl"]})
    monkeypatch.setitem(
        meters.SENSORS, "rapl", ("RAPL", lambda root, *_: meters.open_rapl(Path("/nowhere"), None, None))
    )
    said = edgeprune("energy", "--bundle", tiny)
    assert_one_line(
        said, "energy can't be measured: no energy sensor: none of RAPL is here; a meter at the plug is one too"
    )
    assert said.code == 2 and said.out == ""
    said = edgeprune("energy", "--bundle", tiny, "--meter", "rapl")
    assert_one_line(said, "no RAPL counters under /nowhere")


def test_a_meter_that_is_too_slow_says_what_to_type(
    edgeprune: Type, tiny: Path, plug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "LEAST_SAMPLES", 10_000)
    said = edgeprune("energy", "--bundle", tiny, "--meter", plug, "--seconds", 0.4)
    assert said.code == 2 and said.out == ""
    refused = said.err.splitlines()[-1]
    assert "--seconds 0.4 is too short: the meter gave" in refused and "10000 are needed; type --seconds " in refused


def test_rails_that_contain_each_other_have_a_table_of_their_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "clocks_mhz", lambda: {"cpu": 1510.4, "17000000.gpu": 625.0})
    monkeypatch.setattr(energy, "temperatures_c", lambda: {"cpu-thermal": 51.5, "gpu-thermal": 50.0})
    device = Device()
    graphs = [Graph(device, "dense", 40.0, (9.0, 4.0)), Graph(device, "half", 10.0, (7.0, 2.5))]
    idle, measured = energy.measure_windows(graphs, SampledDevice(device), energy.Plan(2, 10.0), device.wait)
    rows = [EnergyRow(each.graph.label, "fp16", "tensorrt", energy.figures_of(each, idle)) for each in measured]
    machine = {"power_mode": "15W (mode 0)", "governor": "schedutil"}
    show_energy(EnergyResult("measured", ["IN"], 2, 10.0, "a street", 24, 2, idle, {}, machine, rows))
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["half", "fp16", "10.00", "100.0", "7.00", "70.00", "70.00", "70.00", "30.00"]
    assert lines[4] == "mJ a frame by rail (rails may contain each other):"
    assert lines[7].split() == ["dense", "fp16", "360.00", "200.00", "160.00", "140.00"]
    assert lines[-6].startswith("measured; 46.") and lines[-6].endswith(" readings a second")
    assert lines[-3] == "idle, graphs open: 4.00 W before, 4.00 W after (+0.0%); their mean is subtracted"
    assert lines[-2] == (
        "power mode 15W (mode 0); governor schedutil; hottest sensor 52 C idle before, 52 C idle after"
    )
    assert lines[-1] == "while dense ran: cpu 1510 MHz, 17000000.gpu 625 MHz"
    assert max(map(len, lines)) <= 110
