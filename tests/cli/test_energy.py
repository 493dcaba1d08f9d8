"""`energy` as a user types it, on a bundle whose graphs take microseconds and a meter that is a shell's loop."""

import csv
import json
from itertools import count
from pathlib import Path

import pytest

from edgeprune.base.processors import Ticks
from edgeprune.cli.energy import show_energy, write_energy
from edgeprune.evaluate import energy, energy_table
from edgeprune.evaluate.energy_figures import figures_of
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
    monkeypatch.setattr(energy, "processor_ticks", lambda: None)
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
        "others",
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


def test_one_object_and_frames_of_a_folder(
    edgeprune: Type, tiny: Path, plug: str, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine of which others take a quarter. One graph: that all of them are measured the table's test holds."""
    monkeypatch.setattr(energy_table, "MEASURED", ("dense",))
    ticks = (Ticks(1000 * number, 600 * number, 350 * number) for number in count())
    monkeypatch.setattr(energy, "processor_ticks", lambda: next(ticks))
    words = ("--bundle", tiny, "--meter", plug, "--seconds", 0.6, "--rounds", 1, "--camera", frames, "--json")
    said = edgeprune("energy", *words, "--engine", "onnxruntime", "--threads", 1)
    content = json.loads(said.out)
    assert {(row["figures"]["others"], row["figures"]["busy"]) for row in content["rows"]} == {(0.25, True)}
    assert said.err.count("other processes took 25% of the processors while ") == len(content["rows"]) + 2
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
    monkeypatch.setattr(energy_table, "MEASURED", ("dense",))
    said = edgeprune("energy", "--bundle", tiny, "--meter", plug, "--seconds", 0.4)
    assert said.code == 2 and said.out == ""
    refused = said.err.splitlines()[-1]
    assert "--seconds 0.4 is too short: the meter gave" in refused and "10000 are needed; type --seconds " in refused


MACHINE = {"power_mode": "15W (mode 0)", "governor": "schedutil"}


def test_rails_that_contain_each_other_have_a_table_of_their_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "clocks_mhz", lambda: {"cpu": 1510.4, "17000000.gpu": 625.0})
    monkeypatch.setattr(energy, "temperatures_c", lambda: {"cpu-thermal": 51.5, "gpu-thermal": 50.0})
    monkeypatch.setattr(energy, "processor_ticks", lambda: None)
    device = Device()
    graphs = [Graph(device, "dense", 40.0, (9.0, 4.0)), Graph(device, "half", 10.0, (7.0, 2.5))]
    idle, measured = energy.measure_windows(graphs, SampledDevice(device), energy.Plan(2, 10.0), device.wait)
    rows = [EnergyRow(each.graph.label, "fp16", "tensorrt", figures_of(each, idle)) for each in measured]
    show_energy(EnergyResult("measured", ["IN"], 2, 10.0, "a street", 24, 2, idle, {}, MACHINE, rows))
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["half", "fp16", "10.00", "100.0", "7.00", "70.00", "70.00", "70.00", "30.00", "-"]
    assert lines[4] == "mJ a frame by rail (rails may contain each other):"
    assert lines[7].split() == ["dense", "fp16", "360.00", "200.00", "160.00", "140.00"]
    assert lines[-6].startswith("measured; 46.") and lines[-6].endswith(" readings a second")
    assert lines[-3] == "idle, graphs open: 4.00 W before, 4.00 W after (+0.0%); their mean is subtracted"
    assert lines[-2] == (
        "power mode 15W (mode 0); governor schedutil; hottest sensor 52 C idle before, 52 C idle after"
    )
    assert lines[-1] == "while dense ran: cpu 1510 MHz, 17000000.gpu 625 MHz"
    assert max(map(len, lines)) <= 110


def test_rows_of_a_busy_machine_are_marked_in_the_table_and_in_the_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Others take a tenth of the processors while `half` runs, and a fifth while the machine is to be idle."""
    others = iter([0.2, 0.0, 0.1, 0.0])  # idle, two graphs, idle: two looks each
    taken, looks = [0], count()

    def ticks() -> Ticks:
        look = next(looks)
        taken[0] += round(1000 * next(others)) if look % 2 else 0
        return Ticks(1000 * (look + 1), 500 * (look + 1) + taken[0], 500 * (look + 1))

    monkeypatch.setattr(energy, "processor_ticks", ticks)
    device = Device()
    graphs = [Graph(device, "dense", 40.0, (9.0, 9.0)), Graph(device, "half", 10.0, (7.0, 7.0))]
    idle, measured = energy.measure_windows(graphs, SampledDevice(device), energy.Plan(1, 10.0), device.wait)
    rows = [EnergyRow(each.graph.label, "fp16", "tensorrt", figures_of(each, idle)) for each in measured]
    result = EnergyResult("measured", ["IN", "GPU"], 1, 10.0, "a street", 24, 2, idle, {}, MACHINE, rows)
    show_energy(result)
    head, _, dense, half, *about = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["others", "busy"]
    assert (dense.split()[-2:], half.split()[-2:]) == (["0%", "no"], ["10%", "yes"])
    assert about[:3] == [
        "busy: others took over 5% of the processors in a window of that row",
        "idle: others took 20% of the processors, and what they cost is subtracted, too",
        "others: `top` names them; stop them, and measure again",
    ]
    write_energy(result, tmp_path)
    with (tmp_path / "energy.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["others"], row["busy"], row["idle_others"]) for row in table] == [
        ("0.0", "False", "0.2"),
        ("0.1", "True", "0.2"),
    ]
