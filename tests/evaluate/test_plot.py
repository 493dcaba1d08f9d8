"""Plots are written whole, and say what to install or to measure when they can't be."""

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.evaluate.plot import _pareto_front, plot_miou_latency, plot_scaling

ROWS: list[dict[str, Any]] = [
    {"bucket": "dense", "precision": "fp32", "latency_ms": {"p50": 310.0}, "miou": 0.62},
    {"bucket": "b40", "precision": "int8", "latency_ms": {"p50": 100.0}, "miou": 0.61},
    {"bucket": "auto", "precision": "int8", "latency_ms": 101.0, "miou": 0.612},
    {"bucket": "b60", "precision": "int8", "latency_ms": {"p50": None}, "miou": 0.61},
    {"bucket": "b80", "precision": "int8", "latency_ms": {"p50": 150.0}, "miou": None},
]


def test_pareto_front() -> None:
    points = [(3.0, 5.0), (1.0, 2.0), (2.0, 2.0), (2.0, 4.0), (4.0, 4.5)]
    assert _pareto_front(points) == [(1.0, 2.0), (2.0, 4.0), (3.0, 5.0)]


def test_miou_latency(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    plot_miou_latency(ROWS, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size == (1080, 660)
    plot_miou_latency(ROWS, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    for label in ("dense", "b40", "auto"):
        assert f"<!-- {label} -->" in text
    assert "<!-- b60 -->" not in text and "<!-- b80 -->" not in text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plot.png", "plot.svg"]


def test_what_lies_far_under_the_best_stands_at_the_edge_with_its_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    rows = [
        {"bucket": name, "precision": "fp32", "policy": policy, "latency_ms": 10.0 * number, "miou": miou}
        for number, (name, policy, miou) in enumerate(
            (("svit", "svit", 0.60), ("depth-6", "dense", 0.58), ("dtop", "dtop", 0.489), ("dense", "dense", 0.61)), 1
        )
    ]
    plot_miou_latency(rows, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    for label in ("svit", "depth-6", "dtop 48.9", "lies lower", "dense, smaller"):
        assert f"<!-- {label} -->" in text
    plot_miou_latency(rows[::3], tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert "lies lower" not in text and "dense, smaller" not in text
    plot_miou_latency([row | {"bucket": f"b{index}"} for index in range(5) for row in rows], tmp_path / "crowd.png")
    with Image.open(tmp_path / "crowd.png") as image:
        assert image.size == (1440, 900)


def test_growth(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    rows = [
        {"series": series, "precision": precision, "engine": engine, "tokens": tokens}
        | {"latency_ms": {"p50": tokens / 10}, "peak_mb": 100.0}
        for engine in ("onnxruntime", "openvino")
        for series, precision in (("dense", "fp32"), ("full", "int8"), ("bucket 2", "int8"))
        for tokens in (1024, 256)
    ]
    plot_scaling(rows, tmp_path / "scaling.svg")
    text = (tmp_path / "scaling.svg").read_text()
    for label in ("dense fp32", "full int8", "openvino", "tokens of the full grid"):
        assert f"<!-- {label} -->" in text
    assert "<!-- bucket 2 int8 -->" not in text  # lies between the first and the full one
    with pytest.raises(InputError, match="no size was measured"):
        plot_scaling([], tmp_path / "none.png")


def test_labels_do_not_overlap() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from edgeprune.evaluate.plot import _label

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    points = [(100.0 + index, 60 + 0.02 * (index % 3), f"bucket{index}", "black") for index in range(7)]
    axes.scatter([x for x, *_ in points], [y for _, y, *_ in points])
    axes.set(xlim=(0, 300), ylim=(59, 61))
    _label(figure, axes, points)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts if text.get_text()]
    assert len(boxes) == len(points)
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


def test_nothing_to_plot(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row has both mIoU and latency"):
        plot_miou_latency(ROWS[3:], tmp_path / "plot.png")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="plots need matplotlib; install it with: pip install"):
        plot_miou_latency(ROWS, tmp_path / "plot.png")
    assert list(tmp_path.iterdir()) == []
