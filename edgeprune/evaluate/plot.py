"""Plots of measurements and of training, as PNG, SVG or PDF by the path's extension. Needs matplotlib, an extra."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.files import write_atomic
from edgeprune.base.statistics import pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

COLOURS = {"fp32": "#3b6fb6", "int8": "#d1602b"}  # told apart by colour-blind readers too
OTHER_COLOUR = "#555555"
GREY = "#9a9a9a"
FAR = 6.0  # points of mIoU: what lies lower would press the rest together
BELOW = ("v", 50)
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
class Point:
    """A graph in the plot.

    Attributes:
        latency_ms: of a frame, the median.
        miou_percent: 0 to 100.
        label: `dense` is a star and `auto` a diamond; other graphs are dots.
        control: a dense model beside the one called `dense`: a small star.
    """

    latency_ms: float
    miou_percent: float
    label: str
    precision: str
    control: bool = False

    @property
    def marker(self) -> tuple[str, int]:
        """Its shape, and its area in square points."""
        return {"dense": ("*", 200), "auto": ("D", 60)}.get(self.label, ("*", 90) if self.control else ("o", 50))


def plot_miou_latency(points: Sequence[Point], path: Path) -> None:
    """mIoU against median latency, one labelled marker per point, and the Pareto front (no other is faster and better).

    Args:
        points: those more than `FAR` under the best stand at the lower edge with their figure.
        path: where to write.

    Raises:
        InputError: there are no points, matplotlib is missing, the path can't be written.
    """
    if not points:
        raise InputError("nothing to plot: no row has both mIoU and latency; bench with --data gives both")
    figure = new_figure(7.2, 4.4) if len(points) <= CROWD else new_figure(9.6, 6.0)
    axes = figure.add_subplot()
    front = pareto_front([(point.latency_ms, point.miou_percent) for point in points])
    floor = front[-1][1] - FAR
    axes.plot(*zip(*front, strict=True), color=GREY, lw=1.2, ls="--", zorder=1, label="Pareto front")
    for precision in dict.fromkeys(point.precision for point in points):
        colour = COLOURS.get(precision, OTHER_COLOUR)
        axes.plot([], [], "o", color=colour, label=precision)
        for point in (point for point in points if point.precision == precision):
            marker, size = point.marker if point.miou_percent >= floor else BELOW
            y = max(point.miou_percent, floor)
            axes.scatter(point.latency_ms, y, size, colour, marker=marker, edgecolors="white", linewidths=0.8, zorder=3)
    axes.plot([], [], "*", color=OTHER_COLOUR, ms=11, label="dense")
    if any(point.control for point in points):
        axes.plot([], [], "*", color=OTHER_COLOUR, ms=7, label="dense, smaller")
    if any(point.label == "auto" for point in points):
        axes.plot([], [], "D", color=OTHER_COLOUR, ms=6, label="auto (chosen per frame)")
    if any(point.miou_percent < floor for point in points):
        axes.plot([], [], "v", color=OTHER_COLOUR, ms=6, label="lies lower")
    axes.set(xlabel="latency per frame, median (ms)", ylabel="mIoU (%)")
    axes.margins(x=0.12, y=0.15)
    axes.set_xlim(left=0)
    style(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.11), ncols=6)
    _label(
        figure,
        axes,
        [
            (
                point.latency_ms,
                max(point.miou_percent, floor),
                point.label if point.miou_percent >= floor else f"{point.label} {point.miou_percent:.1f}",
                COLOURS.get(point.precision, OTHER_COLOUR),
            )
            for point in points
        ],
    )
    save(figure, path)


def new_figure(width_in: float, height_in: float) -> "Figure":
    """An empty figure. Raises InputError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise InputError("plots need matplotlib; install it with: pip install matplotlib") from None
    return Figure(figsize=(width_in, height_in), layout="constrained")


def style(axes: "Axes") -> None:
    """A grid behind the data, and no frame above and to the right of it."""
    axes.grid(color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(figure: "Figure", axes: "Axes", labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes each text beside its (x, y), at the one of `PLACES` that hits fewest markers, lines and earlier texts."""
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
    for (x, y, text, colour), marker, centre in zip(labels, markers, centres, strict=True):
        written = axes.annotate(text, (x, y), (0, 0), textcoords="offset points", fontsize=8, color=colour)
        size = written.get_window_extent(canvas.get_renderer())
        obstacles = [*texts, *(other for other in markers if other is not marker)]
        costs: list[tuple[int, Place, Bbox]] = []
        for place in PLACES:
            box = _box_at(place, centre, size, point_px)
            outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
            crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
            costs.append((10 * (box.count_overlaps(obstacles) + outside) + crossed, place, box))
        _, (dx, dy, horizontal, vertical), box = min(costs, key=lambda cost: cost[0])
        written.set(ha=horizontal, va=vertical, position=(dx, dy))
        if abs(dy) > 10:
            leader = {"arrowstyle": "-", "lw": 0.6, "color": colour, "shrinkA": 0, "shrinkB": 4}
            axes.annotate("", (x, y), (dx, dy), textcoords="offset points", arrowprops=leader)
        texts.append(box)


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
