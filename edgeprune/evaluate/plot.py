"""Plots of measurements and of training, as PNG, SVG or PDF by the path's extension. Needs matplotlib, an extra."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.files import write_atomic
from edgeprune.base.statistics import pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

logger = logging.getLogger(__name__)

# told apart by colour-blind readers too
COLOURS = {"fp32": "#3b6fb6", "int8": "#d1602b", "fp16": "#2a9d8f", "int8-mlp": "#a05195"}
OTHER_COLOUR = "#555555"
GREY = "#9a9a9a"
# what lies lower than the best by more points than FAR, and by more than FAR_TIMES what the median does, and is not on the
# front, would press the rest together
FAR, FAR_TIMES = 6.0, 2.5
CROWD = 16  # points that a plot of the usual size holds with their names
# where a label may stand, seen from its marker: (x, y) in points, horizontal and vertical alignment; best first
Place = tuple[float, float, str, str]
# fmt: off
PLACES: tuple[Place, ...] = (
    (7, 0, "left", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top"), (-7, 0, "right", "center"),
    (6, 6, "left", "bottom"), (6, -6, "left", "top"), (-6, 6, "right", "bottom"), (-6, -6, "right", "top"),
    (14, 14, "left", "bottom"), (14, -14, "left", "top"), (-14, 14, "right", "bottom"), (-14, -14, "right", "top"),
    (0, 22, "center", "bottom"), (0, -22, "center", "top"), (22, 26, "left", "bottom"), (22, -26, "left", "top"),
)
# fmt: on


@dataclass(frozen=True)
class Mark:
    """How a kind of point looks: its shape, its area in square points, and what the legend calls it; None: nothing."""

    shape: str
    area: int
    legend: str | None


# kinds are told apart by their shapes, precisions by their colours
MARKS = {
    "graph": Mark("o", 50, None),
    "auto": Mark("D", 60, "auto (chosen per frame)"),
    "dense": Mark("*", 200, "dense"),
    "smaller": Mark("s", 45, "dense, smaller"),
    "pruned": Mark("o", 50, "pruned"),
    "peer": Mark("^", 65, "peer"),
}
BELOW = Mark("v", 40, "lies lower")


@dataclass(frozen=True)
class Point:
    """A graph in the plot.

    Attributes:
        latency_ms: of a frame, the median.
        percent: what it scores, 0 to 100.
        mark: a key of MARKS.
    """

    latency_ms: float
    percent: float
    label: str
    precision: str
    mark: str = "graph"


def plot_latency(panels: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Accuracy against median latency, a panel for each measure: one labelled marker per point, and the Pareto front (no other
    is as fast and as good).

    Args:
        panels: by what the axis is called. Of the points those that lie more than `FAR` under the best and under the front
            stand at the lower edge with their figure; a panel without points is left out.
        path: where to write.

    Raises:
        InputError: there are no points, matplotlib is missing, the path can't be written.
    """
    filled = {name: points for name, points in panels.items() if points}
    if not filled:
        raise InputError("nothing to plot: no row has both accuracy and latency; bench with --data gives both")
    crowded = len(filled) > 1 or max(map(len, filled.values())) > CROWD
    width_in, height_in = (9.6, 6.0) if crowded else (7.2, 4.4)
    figure = new_figure(width_in, height_in * (1 if len(filled) == 1 else 0.8 * len(filled)))
    all_axes = figure.subplots(len(filled), sharex=True, squeeze=False)[:, 0]
    for axes, (name, points) in zip(all_axes, filled.items(), strict=True):
        _draw(axes, points)
        axes.set(ylabel=name)
    all_axes[-1].set(xlabel="latency per frame, median (ms)")
    all_axes[0].set_xlim(left=0)
    _explain(all_axes[0], [point for points in filled.values() for point in points], any(map(_below, filled.values())))
    unnamed = sum(_name(figure, axes, points) for axes, points in zip(all_axes, filled.values(), strict=True))
    if unnamed:
        all_axes[-1].set(xlabel=f"latency per frame, median (ms); where names have no room ({unnamed}) see the table")
    save(figure, path)


def _front(points: Sequence[Point]) -> list[tuple[float, float]]:
    return pareto_front([(point.latency_ms, point.percent) for point in points])


def _floor(points: Sequence[Point]) -> float:
    """What is drawn lowest, a little under what is not far from the best; the front is drawn as it is."""
    front, drawn = _front(points), [point.percent for point in points]
    best = front[-1][1]
    lowest = min(front[0][1], best - max(FAR, FAR_TIMES * (best - median(drawn))))
    nearest = min(percent for percent in drawn if percent >= lowest)
    return nearest - max(1.0, 0.1 * (best - nearest))


def _below(points: Sequence[Point]) -> bool:
    return any(point.percent < _floor(points) for point in points)


def _name(figure: "Figure", axes: "Axes", points: Sequence[Point]) -> int:
    """Names the points, those on the front first, then from the top; returns how many names found no room."""
    floor, front = _floor(points), _front(points)
    ordered = sorted(points, key=lambda each: ((each.latency_ms, each.percent) not in front, -each.percent))
    labels = []
    for point in ordered:
        text = point.label if point.percent >= floor else f"{point.label} {point.percent:.1f}"
        colour = COLOURS.get(point.precision, OTHER_COLOUR)
        labels.append((point.latency_ms, max(point.percent, floor), text, colour))
    return _label(figure, axes, labels)


def _draw(axes: "Axes", points: Sequence[Point]) -> None:
    axes.plot(*zip(*_front(points), strict=True), color=GREY, lw=1.2, ls="--", zorder=1)
    floor = _floor(points)
    for point in points:
        mark = MARKS[point.mark] if point.percent >= floor else BELOW
        colour = COLOURS.get(point.precision, OTHER_COLOUR)
        y = max(point.percent, floor)
        axes.scatter(
            point.latency_ms, y, mark.area, colour, marker=mark.shape, edgecolors="white", linewidths=0.8, zorder=3
        )
    axes.margins(x=0.12, y=0.15)
    style(axes)


def _explain(axes: "Axes", points: Sequence[Point], below: bool) -> None:
    """The legend: the front, the precisions' colours, and the shapes that there are."""
    axes.plot([], [], color=GREY, lw=1.2, ls="--", label="Pareto front")
    for precision in dict.fromkeys(point.precision for point in points):
        axes.plot([], [], color=COLOURS.get(precision, OTHER_COLOUR), lw=6, label=precision)
    marks = [MARKS[name] for name in MARKS if any(point.mark == name for point in points)]
    for mark in [*marks, *([BELOW] if below else [])]:
        if mark.legend:
            axes.scatter([], [], mark.area, OTHER_COLOUR, marker=mark.shape, label=mark.legend)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=8)


class NoMatplotlib(InputError):
    """It is an extra, which a device does without."""


def drawn(plot: Callable[[Path], None], path: Path) -> list[Path]:
    """Where the plot is; nowhere without matplotlib, and that is said: what was measured for minutes is not kept back for want
    of its picture.

    Raises:
        InputError: what else `plot` raises.
    """
    try:
        plot(path)
    except NoMatplotlib as error:
        logger.warning(f"no {path.name}: {error}")
        return []
    return [path]


def new_figure(width_in: float, height_in: float) -> "Figure":
    """An empty figure. Raises NoMatplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise NoMatplotlib("plots need matplotlib; install it with: pip install matplotlib") from None
    return Figure(figsize=(width_in, height_in), layout="constrained")


def style(axes: "Axes") -> None:
    """A grid behind the data, and no frame above and to the right of it."""
    axes.grid(color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(figure: "Figure", axes: "Axes", labels: Sequence[tuple[float, float, str, str]]) -> int:
    """Writes each text beside its (x, y), at the one of `PLACES` that hits fewest markers and lines; returns how many were left
    out because each place is outside, or an earlier text's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # settles the layout, so that positions in pixels are final
    point_px = figure.dpi / 72
    frame = axes.get_window_extent()
    centres = axes.transData.transform([(x, y) for x, y, _, _ in labels])
    markers = [Bbox.from_bounds(x, y, 0, 0).padded(5 * point_px) for x, y in centres]
    lines = [line.get_path().transformed(axes.transData) for line in axes.lines if np.size(line.get_xdata()) > 1]
    texts: list[Bbox] = []
    left_out = 0
    for (x, y, text, colour), marker, centre in zip(labels, markers, centres, strict=True):
        written = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", fontsize=8, color=colour)
        size = written.get_window_extent(canvas.get_renderer())
        others = [other for other in markers if other is not marker]
        costs: list[tuple[int, Place, Bbox]] = []
        for place in PLACES:
            box = _box_at(place, centre, size, point_px)
            outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
            if outside or box.count_overlaps(texts):
                continue
            crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
            costs.append((10 * box.count_overlaps(others) + crossed, place, box))
        if not costs:
            written.remove()
            left_out += 1
            continue
        _, (dx, dy, horizontal, vertical), box = min(costs, key=lambda cost: cost[0])
        written.set(ha=horizontal, va=vertical, position=(dx, dy))
        if abs(dy) > 10:
            leader = {"arrowstyle": "-", "lw": 0.6, "color": colour, "shrinkA": 0, "shrinkB": 4}
            axes.annotate("", (x, y), (dx, dy), textcoords="offset points", arrowprops=leader)
        texts.append(box)
    return left_out


def _box_at(place: Place, centre: tuple[float, float], size: "Bbox", point_px: float) -> "Bbox":
    """The box in pixels of a text of that size at a place beside a marker."""
    dx, dy, horizontal, vertical = place
    left = centre[0] + dx * point_px - {"left": 0.0, "center": 0.5, "right": 1.0}[horizontal] * size.width
    bottom = centre[1] + dy * point_px - {"bottom": 0.0, "center": 0.5, "top": 1.0}[vertical] * size.height
    return size.from_bounds(left, bottom, size.width, size.height)


def save(figure: "Figure", path: Path) -> None:
    """Writes the figure; raises InputError where the path can't be written."""
    with write_atomic(path, "the plot") as partial:
        figure.savefig(partial, dpi=150)
