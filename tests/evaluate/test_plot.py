"""Plots are written whole, and say what to install or to measure when they can't be."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.evaluate.plot import MARKS, Point, plot_latency

POINTS = [
    Point(310.0, 62, "dense", "fp32", "dense"),
    Point(100.0, 61, "b40", "int8"),
    Point(101.0, 61.2, "auto", "int8", "auto"),
]


def plot(points: Sequence[Point], path: Path) -> None:
    plot_latency({"mIoU (%)": points}, path)


def test_accuracy_against_latency(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    plot(POINTS, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size == (1080, 660)
    plot(POINTS, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    for label in ("dense", "b40", "auto"):
        assert f"<!-- {label} -->" in text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["plot.png", "plot.svg"]


def test_what_lies_far_under_the_best_stands_at_the_edge_with_its_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    points = [
        Point(10, 60, "svit", "fp32", "pruned"),
        Point(20, 58, "depth-6", "fp32", "smaller"),
        Point(30, 48.9, "dtop", "fp32", "pruned"),
        Point(40, 61, "dense", "fp32", "dense"),
    ]
    plot(points, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    for label in ("svit", "depth-6", "dtop 48.9", "lies lower", "dense, smaller"):
        assert f"<!-- {label} -->" in text
    plot(points[::3], tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert "lies lower" not in text and "dense, smaller" not in text
    plot([replace(point, label=f"b{index}") for index in range(5) for point in points], tmp_path / "crowd.png")
    with Image.open(tmp_path / "crowd.png") as image:
        assert image.size == (1440, 900)


def test_a_panel_for_each_measure_that_has_points(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    kinds = [Point(10.0 * index, 50 + index, f"a {mark}", "int8", mark) for index, mark in enumerate(MARKS, 1)]
    plot_latency({"mIoU (%)": kinds, "boundary F (%)": kinds[1:], "small things (%)": []}, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert text.count("<!-- a peer -->") == 2 and text.count("<!-- a graph -->") == 1
    assert "<!-- boundary F (%) -->" in text and "small things" not in text
    assert len({mark.shape for mark in MARKS.values()}) == len(MARKS) - 1  # a bucket is pruned


def test_what_is_on_the_front_is_drawn_where_it_lies(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    plot([Point(5, 30, "swift", "fp32"), *POINTS], tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert "<!-- swift -->" in text and "lies lower" not in text


def test_names_without_room_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    plot([Point(10, 60, f"the same place, {index}", "fp32") for index in range(30)], tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    shown = text.count("<!-- the same place")
    assert 1 < shown < 30 and f"where names have no room ({30 - shown}) see the table" in text


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
    with pytest.raises(InputError, match="no row has both accuracy and latency"):
        plot([], tmp_path / "plot.png")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="plots need matplotlib; install it with: pip install"):
        plot(POINTS, tmp_path / "plot.png")
    assert list(tmp_path.iterdir()) == []
