"""Millijoules of a frame: the figures equal what a simulated device takes; the order of what is done is the protocol's."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.processors import Ticks
from edgeprune.base.table import plain
from edgeprune.bundle import Bundle
from edgeprune.evaluate import energy as module
from edgeprune.evaluate.energy import Plan, measure_windows
from edgeprune.evaluate.energy_figures import EnergyFigures, Idle, figures_of
from edgeprune.evaluate.energy_table import energy_entries, frames_of_camera
from edgeprune.evaluate.graphs import GraphSelection
from edgeprune.evaluate.worker import Window, time_window
from edgeprune.runtime.meters import Energy, Meter
from tests import bundles
from tests.evaluate.devices import Device, Graph, SampledDevice

PLAN = Plan(rounds=3, seconds=10.0)


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows here are simulated; what else runs on the machine of the tests is no part of them."""
    monkeypatch.setattr(module, "processor_ticks", lambda: None)


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def graphs(device: Device) -> list[Graph]:
    """What each takes is known: 360 mJ, 70 mJ and 48 mJ a frame, gross."""
    return [
        Graph(device, "dense fp32", 40.0, (9.0, 4.0)),
        Graph(device, "half int8", 10.0, (7.0, 2.5)),
        Graph(device, "auto int8", 8.0, (6.0, 1.5)),
    ]


def measure(device: Device, graphs: list[Graph], meter: Meter, plan: Plan = PLAN) -> tuple[Idle, list[EnergyFigures]]:
    idle, measured = measure_windows(graphs, meter, plan, device.wait)
    return idle, [figures_of(each, idle) for each in measured]


def test_the_figures_are_what_the_device_took(device: Device, graphs: list[Graph]) -> None:
    """Warm-up, which takes more, is in none of them."""
    idle, rows = measure(device, graphs, SampledDevice(device))
    assert (idle.total_before_w, idle.total_after_w, idle.drift) == pytest.approx((4.0, 4.0, 0.0))
    for row, graph in zip(rows, graphs, strict=True):
        total_w, gpu_w = graph.watts
        assert row.frames == 3 * 1000 * PLAN.seconds / graph.ms and row.fps == pytest.approx(1000 / graph.ms)
        assert row.latency_ms.p50 == graph.ms and row.watts == pytest.approx(total_w)
        assert row.mj_per_frame == pytest.approx(total_w * graph.ms)
        assert row.mj_above_idle == pytest.approx((total_w - 4.0) * graph.ms)
        assert row.mj_spread == pytest.approx((row.mj_per_frame, row.mj_per_frame))
        assert row.rails["IN"].mj_per_frame == pytest.approx(row.mj_per_frame)
        assert row.rails["GPU"].mj_per_frame == pytest.approx(gpu_w * graph.ms)
        assert row.rails["GPU"].mj_above_idle == pytest.approx((gpu_w - 0.5) * graph.ms)
        assert row.sampling_hz == pytest.approx(46.1, rel=0.01) and row.samples == pytest.approx(3 * 461, abs=9)
        assert row.buckets == {graph.label: row.frames}
    json.dumps(plain(rows), allow_nan=False)


def test_what_is_done_in_which_order(device: Device, graphs: list[Graph]) -> None:
    measure(device, graphs[:2], SampledDevice(device), Plan(2, 10.0))
    half = ["half int8 2", "half int8 10"]
    dense = ["dense fp32 2", "dense fp32 10"]
    assert device.done == ["wait 5", "wait 10", *dense, *half, *half, *dense, "wait 5", "wait 10"]


def test_rounds_that_differ_are_a_mean_and_a_spread(device: Device, graphs: list[Graph]) -> None:
    """A device that takes 2 W more in each round: of as many frames in each, the mean."""
    graph, window = graphs[1], graphs[1].window

    def hotter(seconds: float, halfway: object = None) -> Window:
        done = window(seconds, halfway)  # type: ignore[arg-type]
        if halfway:
            graph.watts = (graph.watts[0] + 2, graph.watts[1])
        return done

    graph.window = hotter  # type: ignore[assignment]
    _, (row,) = measure(device, [graph], SampledDevice(device))
    assert row.mj_spread == pytest.approx((70, 110)) and row.mj_per_frame == pytest.approx(90)


def test_idle_power_that_drifts_is_its_mean_and_is_said(device: Device, graphs: list[Graph], said: list[str]) -> None:
    window = graphs[0].window

    def warming(seconds: float, halfway: object = None) -> Window:
        device.idle_w = (4.4, 0.5)
        return window(seconds, halfway)  # type: ignore[arg-type]

    graphs[0].window = warming  # type: ignore[assignment]
    idle, (row,) = measure(device, graphs[:1], SampledDevice(device))
    assert (idle.total_before_w, idle.total_after_w, idle.drift) == pytest.approx((4.0, 4.4, 0.1))
    assert row.mj_above_idle == pytest.approx((9.0 - 4.2) * 40)
    assert any(
        line.startswith("idle power went from 4.00 to 4.40 W (+10%): the machine was not at rest") for line in said
    )


def test_a_window_of_too_few_readings_is_refused_before_anything_runs(device: Device, graphs: list[Graph]) -> None:
    meter = SampledDevice(device)
    meter.hz = 1.0
    with pytest.raises(InputError, match=r"^--seconds 10 is too short: the meter gave 11 readings.*type --seconds 22$"):
        measure(device, graphs, meter)
    assert device.done == ["wait 5", "wait 10"]
    _, (row,) = measure(device, graphs[:1], meter, Plan(1, 22.0))
    assert row.mj_per_frame == pytest.approx(360)


def test_a_meter_that_gives_fewer_readings_later(device: Device, graphs: list[Graph]) -> None:
    meter, window = SampledDevice(device), graphs[0].window

    def slower(seconds: float, halfway: object = None) -> Window:
        meter.hz = 1.0
        return window(seconds, halfway)  # type: ignore[arg-type]

    graphs[0].window = slower  # type: ignore[assignment]
    with pytest.raises(RunError, match="only 11 readings of power while dense fp32 ran; run again with more --seconds"):
        measure(device, graphs, meter)


def test_a_meter_without_a_total_is_refused(device: Device, graphs: list[Graph]) -> None:
    meter = SampledDevice(device)
    meter.total_of = ()
    with pytest.raises(InputError, match=r"energy of a frame needs a total: measured by a simulation"):
        measure(device, graphs, meter)


def test_time_that_was_left_out_is_no_figure(device: Device, graphs: list[Graph]) -> None:
    """Within a window in which power changes."""
    meter = SampledDevice(device)
    graphs[0].cold_w = 0.0
    window = graphs[0].window

    def two_powers(seconds: float, halfway: object = None) -> Window:
        begin_s = device.now_s
        done = window(seconds, halfway)  # type: ignore[arg-type]
        device.power.append((begin_s + 5, 20.0, 4.0))
        meter.lost = (begin_s + 3, begin_s + 6)
        return done

    graphs[0].window = two_powers  # type: ignore[assignment]
    with pytest.raises(RunError, match=r"^no energy while dense fp32 ran: .*3.0 s of 10.0 s left out.*; run again"):
        measure(device, graphs, meter)


def test_a_sensor_that_stops_answering(device: Device, graphs: list[Graph]) -> None:
    class Lost(SampledDevice):
        def stop(self) -> Energy:
            if self.begin_s > 16:
                return Energy("no energy sensor: simulated stopped answering (busy)", {}, None, (), 0, 0.0, None)
            return super().stop()

    with pytest.raises(
        RunError, match=r"^no energy while dense fp32 ran: no energy sensor: simulated stopped answering"
    ):
        measure(device, graphs, Lost(device))


def test_clocks_and_temperatures_are_those_of_the_middle_of_a_window(
    device: Device, graphs: list[Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks, degrees = iter([1000.0, 1200.0, 1400.0]), iter([30.0, 50.0, 60.0, 55.0, 40.0])
    monkeypatch.setattr(module, "clocks_mhz", lambda: {"cpu": next(clocks)})
    monkeypatch.setattr(module, "temperatures_c", lambda: {"soc": next(degrees)})
    idle, (row,) = measure(device, graphs[:1], SampledDevice(device))
    assert row.clocks_mhz == {"cpu": 1200.0} and row.temperature_c == {"soc": 60.0}
    assert idle.temperature_c == {"before": {"soc": 30.0}, "after": {"soc": 40.0}}


# --- what others take of the machine ---


@pytest.fixture
def others(device: Device, monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """others(0.12, 10.0): other processes took so much of the device's two processors for so many seconds; ours took one."""
    taken_s = [0.0]

    def ticks() -> Ticks:
        ours_s = device.now_s
        return Ticks(*(round(100 * each_s) for each_s in (2 * device.now_s, ours_s + taken_s[0], ours_s)))

    def take(share: float, seconds: float) -> None:
        taken_s[0] += 2 * share * seconds

    monkeypatch.setattr(module, "processor_ticks", ticks)
    return take


def test_rows_of_windows_in_which_others_ran_are_marked_and_kept(
    device: Device, graphs: list[Graph], others: Callable[[float, float], None], said: list[str]
) -> None:
    """One window in three is enough, and beyond 5% counts. What runs beside a warm-up alone is nothing to a figure."""
    shares = {"dense fp32": [0.0, 0.045, 0.0], "half int8": [0.0, 0.12, 0.3], "auto int8": [0.0, 0.0, 0.06]}
    for graph in graphs:

        def beside(seconds: float, halfway: object = None, graph: Graph = graph, window: Any = graph.window) -> Window:
            done: Window = window(seconds, halfway)
            others(shares[graph.label].pop(0) if halfway else 0.4, done.seconds)
            return done

        graph.window = beside  # type: ignore[assignment]
    idle, rows = measure(device, graphs, SampledDevice(device))
    assert [row.others for row in rows] == pytest.approx([0.045, 0.3, 0.06], abs=0.001)
    assert [row.busy for row in rows] == [False, True, True] and not idle.busy and idle.others == 0.0
    assert [row.mj_per_frame for row in rows] == pytest.approx([360, 70, 48])
    warned = [line for line in said if line.startswith("other processes")]
    assert warned == [
        f"other processes took {share} of the processors while {label} ran: `top` names them; stop them, and run again"
        for share, label in (("12%", "half int8"), ("6%", "auto int8"))
    ]


def test_others_that_run_while_the_machine_is_to_be_idle_are_said(
    device: Device, graphs: list[Graph], others: Callable[[float, float], None], said: list[str]
) -> None:
    """Before the first window, not after the last."""

    def wait(seconds: float) -> None:
        others(0.2 if device.now_s < 60 else 0.0, seconds)
        device.wait(seconds)

    idle, measured = measure_windows(graphs[:1], SampledDevice(device), Plan(3, 30.0), wait)
    assert idle.others == pytest.approx(0.2, abs=0.001) and idle.busy and not figures_of(measured[0], idle).busy
    assert sum("20% of the processors while the machine was to be idle" in line for line in said) == 1


def test_where_it_is_not_known_what_others_take_no_row_is_marked(device: Device, graphs: list[Graph]) -> None:
    idle, rows = measure(device, graphs, SampledDevice(device))
    assert {(row.others, row.busy) for row in rows} == {(None, False)} and (idle.others, idle.busy) == (None, False)


# --- windows of graphs ---


def test_a_window_lasts_as_long_as_it_was_asked_to() -> None:
    frames_FHW3 = np.zeros((3, 2, 2, 3), np.uint8)
    seen = []

    def timed(frame_HW3: np.ndarray) -> str:
        seen.append(frame_HW3)
        time.sleep(0.01)
        return "half"

    window = time_window(timed, frames_FHW3, 0.1)
    assert 0.1 <= window.seconds < 0.1 + 5 * window.latency_ms.p95 / 1e3
    assert window.frames == len(seen) == window.buckets["half"] > 3  # they are run again
    assert 10 <= window.latency_ms.p50 <= window.latency_ms.p95 <= 1e3 * window.seconds
    assert time_window(timed, frames_FHW3, 0.0).frames == 1


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write_bundle(tmp_path_factory.mktemp("energy") / "tiny", precisions=("fp32", "int8"))


def test_graphs_of_a_bundle_and_a_window_of_one_in_its_process(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")
    frames = frames_of_camera(bundle, None)
    entries = energy_entries(bundle, frames.frames_FHW3, tmp_path, GraphSelection(["int8"]), "onnxruntime")
    assert [entry.label for entry in entries] == [
        "dense fp32",
        *(f"{name} int8" for name in (*bundles.BUCKETS, "auto")),
    ]
    auto, halfway = entries[-1], []
    auto.start()
    auto.wait_until_warm()
    began_s = time.monotonic()
    window = auto.window(1.0, halfway=lambda: halfway.append(time.monotonic() - began_s))
    auto.close()
    assert window.frames > 1 and sum(window.buckets.values()) == window.frames
    assert window.seconds >= 1 and 0.5 <= halfway[0] < 1
    assert window.latency_ms.p50 > 0


def test_frames_of_a_folder_are_fitted_and_in_memory(bundle: Bundle, tmp_path: Path) -> None:
    from PIL import Image

    for index in range(3):
        Image.fromarray(bundles.frame_with(index)).resize((96, 64)).save(tmp_path / f"{index}.png")
    frames = frames_of_camera(bundle, str(tmp_path))
    assert frames.frames_FHW3.shape == (3, bundles.H, bundles.W, 3) and frames.frames_FHW3.dtype == np.uint8
    assert frames.source == f"3 frames of {tmp_path}"
    with pytest.raises(InputError, match="has no end that frames could be spread over; give it one"):
        frames_of_camera(bundle, "synthetic://street?seed=1")
