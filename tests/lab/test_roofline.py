"""The roofline: multiply-adds from shapes, groups from a profile, and a bundle from end to end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.table import plain
from edgeprune.bundle import open_bundle
from edgeprune.lab.peaks import Peaks, measure_peaks
from edgeprune.lab.roofline import Group, count_macs, group_events, roofline
from tests import bundles


def floats(*shapes: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return [("float", shape) for shape in shapes]


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "macs"),
    [
        ("QGemm", floats((768, 192), ()), (768, 576), 768 * 192 * 576),  # its packed weight is not in the profile
        ("Gemm", floats((768, 192), (48,)), (768, 48), 768 * 192 * 48),
        ("MatMul", floats((768, 192)), (768, 576), 768 * 192 * 576),
        ("FusedMatMul", floats((768, 3, 64), (768, 3, 64)), (3, 768, 768), 3 * 768 * 768 * 64),
        ("FusedMatMul", floats((3, 320, 768), (768, 3, 64)), (3, 320, 64), 3 * 320 * 768 * 64),
        ("MatMul", floats((3, 320, 64), (3, 64, 320)), (3, 320, 320), 3 * 320 * 320 * 64),
        ("Conv", floats((1, 3, 384, 512), (16, 3, 3, 3), (16,)), (1, 16, 192, 256), 16 * 192 * 256 * 27),
        ("Softmax", floats((3, 768, 768)), (3, 768, 768), 0),
        ("Range", [], (5,), 0),
    ],
)
def test_multiply_adds(operator: str, inputs: Any, output: tuple[int, ...], macs: int) -> None:
    assert count_macs(operator, inputs, floats(output)) == macs


def event(name: str, operator: str, microseconds: float, index: int = 0) -> dict[str, Any]:
    shapes = [{"float": [4, 8]}]
    arguments = {"op_name": operator, "input_type_shape": shapes, "output_type_shape": shapes, "node_index": str(index)}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": arguments}


def test_groups_are_means_over_the_runs_after_warm_up() -> None:
    run = [("a", "Add", 0), ("b", "Mul", 1), ("s", "Softmax", 2), ("x", "Mystery", 3)]
    events: list[dict[str, Any]] = [{"cat": "Session", "name": "model_run", "dur": 1e6, "args": {}}]
    for microseconds in (9e6, 10.0, 30.0):
        events += [event(name, operator, microseconds, index) for name, operator, index in run]
    groups = group_events(events, warm_up=1)
    assert {name: (group.nodes, group.ms) for name, group in groups.items()} == {
        "sums": (2, pytest.approx(0.04)),
        "softmax": (1, pytest.approx(0.02)),
        "other": (1, pytest.approx(0.02)),
    }
    assert groups["softmax"].bytes == 2 * 4 * 8 * 4


def test_the_floor_is_the_longer_of_computing_and_moving() -> None:
    peaks = Peaks(fp32_gmacs=100, int8_gmacs=400, copy_gbytes=10)
    assert Group(macs=10**9).floor_ms(peaks, int8=False) == pytest.approx(10)
    assert Group(macs=10**9).floor_ms(peaks, int8=True) == pytest.approx(2.5)
    assert Group(macs=10**9, bytes=10**9).floor_ms(peaks, int8=True) == pytest.approx(100)


def test_a_bundle_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the peaks are measured on graphs that onnx writes: pip install onnx")
    bundle = open_bundle(bundles.write_bundle(tmp_path / "tiny").folder)
    result = roofline(bundle, bundles.frame_with(5), threads=1)
    json.dumps(plain(result), allow_nan=False)
    assert result.threads == 1 and all(value > 0 for value in vars(result.peaks).values())
    graphs = {(row.graph, row.precision) for row in result.rows}
    assert graphs == {("dense", "fp32")} | {
        (name, precision) for name in ("trunk", *bundles.BUCKETS) for precision in ("fp32", "int8")
    }
    for graph in graphs:
        rows = [row for row in result.rows if (row.graph, row.precision) == graph]
        *parts, whole = rows
        assert whole.group == "all" and whole.ms == pytest.approx(sum(row.ms for row in parts))
        assert whole.nodes == sum(row.nodes for row in parts) > 0
    trunk = [row for row in result.rows if row.graph == "trunk" and row.precision == "fp32"]
    half = [row for row in result.rows if row.graph == "half" and row.precision == "fp32"]
    assert half[-1].nodes > trunk[-1].nodes  # trunk and tail together


def test_an_int8_gemm_peak_is_a_real_product() -> None:
    pytest.importorskip("onnx", reason="the peaks are measured on graphs that onnx writes: pip install onnx")
    peaks = measure_peaks(1)
    # the slowest and the fastest core that could run this; a peak of an empty graph would lie far above
    assert all(1 < value < 20000 for value in (peaks.fp32_gmacs, peaks.int8_gmacs))
    assert np.isfinite(peaks.copy_gbytes)
    # signed activations where the machine multiplies unsigned ones run at an eighth of FP32: not what a graph gets
    assert peaks.int8_gmacs > peaks.fp32_gmacs / 2
