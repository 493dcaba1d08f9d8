"""Plots of measurements and of training, as PNG, SVG or PDF by the path's extension. Needs matplotlib, an extra."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.files import write_atomic
from edgeprune.base.table import lookup

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
# what a plot of scaling shows, and how: every bucket lies between the first and the full one
SCALING_LINES = {"dense": "*-", "full": "o--", "bucket 1": "o:", "trunk": ".-."}
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


class Point(NamedTuple):
    """A row of the plot: milliseconds, mIoU in percent; `control`: a dense model beside the one called `dense`."""

    latency: float
    miou: float
    bucket: str
    precision: str
    dense: bool

    @property
    def control(self) -> bool:
        return self.dense and self.bucket != "dense"

    @property
    def marker(self) -> tuple[str, int]:
        """Its shape, and its area in square points."""
        return {"dense": ("*", 200), "auto": ("D", 60)}.get(self.bucket, ("*", 90) if self.dense else ("o", 50))


def plot_miou_latency(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """mIoU against median latency, one labelled marker per row, and the Pareto front (no other is faster and better).

    Args:
        rows: as `bench` reports them: `bucket`, `precision`, `latency_ms` {p50} or a number, `miou` (0 to 1). Rows
            whose mIoU or latency is None are left out. `dense` is a star, `auto` a diamond, other buckets are dots; where
            a row has a `policy`, dense ones are stars. Rows more than `FAR` points under the best stand at the lower
            edge with their figure.
        path: where to write.

    Raises:
        InputError: no row has both figures, matplotlib is missing, the path can't be written.
    """
    points = [
        Point(
            float(latency),
            100 * float(row["miou"]),
            str(row["bucket"]),
            str(row["precision"]),
            row.get("policy") == "dense",
        )
        for row in rows
        if (latency := _latency(row)) is not None and row.get("miou") is not None
    ]
    if not points:
        raise InputError("nothing to plot: no row has both mIoU and latency; bench with --data gives both")
    figure = _figure(7.2, 4.4) if len(points) <= CROWD else _figure(9.6, 6.0)
    axes = figure.add_subplot()
    front = _pareto_front([(point.latency, point.miou) for point in points])
    floor = front[-1][1] - FAR
    axes.plot(*zip(*front, strict=True), color=GREY, lw=1.2, ls="--", zorder=1, label="Pareto front")
    for precision in dict.fromkeys(point.precision for point in points):
        colour = COLOURS.get(precision, OTHER_COLOUR)
        axes.plot([], [], "o", color=colour, label=precision)
        for point in (point for point in points if point.precision == precision):
            marker, size = point.marker if point.miou >= floor else BELOW
            y = max(point.miou, floor)
            axes.scatter(point.latency, y, size, colour, marker=marker, edgecolors="white", linewidths=0.8, zorder=3)
    axes.plot([], [], "*", color=OTHER_COLOUR, ms=11, label="dense")
    if any(point.control for point in points):
        axes.plot([], [], "*", color=OTHER_COLOUR, ms=7, label="dense, smaller")
    if any(point.bucket == "auto" for point in points):
        axes.plot([], [], "D", color=OTHER_COLOUR, ms=6, label="auto (chosen per frame)")
    if any(point.miou < floor for point in points):
        axes.plot([], [], "v", color=OTHER_COLOUR, ms=6, label="lies lower")
    axes.set(xlabel="latency per frame, median (ms)", ylabel="mIoU (%)")
    axes.margins(x=0.12, y=0.15)
    axes.set_xlim(left=0)
    _style(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.11), ncols=6)
    _label(
        figure,
        axes,
        [
            (
                point.latency,
                max(point.miou, floor),
                point.bucket if point.miou >= floor else f"{point.bucket} {point.miou:.1f}",
                COLOURS.get(point.precision, OTHER_COLOUR),
            )
            for point in points
        ],
    )
    _save(figure, path)


def plot_scaling(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Median latency (both axes logarithmic) and peak memory against the tokens of the full grid, a line per graph. Graphs
    that were not measured at every size are left out where there are several.

    Args:
        rows: as `scaling` reports them: `series`, `precision`, `engine`, `tokens`, `latency_ms` {p50}, `peak_mb`. Dense is
            drawn solid, `full` dashed, the rest thin; a colour for each precision, a panel pair for each engine.
        path: where to write.

    Raises:
        InputError: there are no rows, matplotlib is missing, the path can't be written.
    """
    if not rows:
        raise InputError("nothing to plot: no size was measured")
    engines = list(dict.fromkeys(str(row["engine"]) for row in rows))
    figure = _figure(7.2, 3.4 * len(engines))
    panels = figure.subplots(len(engines), 2, squeeze=False)
    for engine, (left, right) in zip(engines, panels, strict=True):
        own = [row for row in rows if row["engine"] == engine]
        sizes = sorted({row["tokens"] for row in own})
        for axes, key, what in ((left, "latency_ms.p50", "latency (ms)"), (right, "peak_mb", "peak memory (MB)")):
            for name, precision in dict.fromkeys((row["series"], row["precision"]) for row in own):
                drawn = SCALING_LINES.get(name)
                if drawn is None:
                    continue
                line = sorted(
                    (row["tokens"], lookup(row, key))
                    for row in own
                    if (row["series"], row["precision"]) == (name, precision) and lookup(row, key) is not None
                )
                if len(line) < len(sizes):
                    continue
                colour = COLOURS.get(precision, OTHER_COLOUR)
                axes.plot(*zip(*line, strict=True), drawn, color=colour, lw=1.4, ms=4, label=f"{name} {precision}")
            axes.set(xscale="log", xlabel="tokens of the full grid", ylabel=what)
            axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=7)
            axes.minorticks_off()
            _style(axes)
        left.set_yscale("log")
        right.set_ylim(bottom=0)
        left.set_title(engine, loc="left", fontsize=9)
        left.legend(frameon=False, fontsize=7)
    _save(figure, path)


def _pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (latency, mIoU) that no faster one matches in mIoU, fastest first."""
    front: list[tuple[float, float]] = []
    for latency, miou in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or miou > front[-1][1]:
            front.append((latency, miou))
    return front


def _latency(row: Mapping[str, Any]) -> float | None:
    latency = row.get("latency_ms")
    return lookup(row, "latency_ms.p50") if isinstance(latency, Mapping) else latency


def _figure(width_in: float, height_in: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise InputError("plots need matplotlib; install it with: pip install matplotlib") from None
    return Figure(figsize=(width_in, height_in), layout="constrained")


def _style(axes: "Axes") -> None:
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


def _save(figure: "Figure", path: Path) -> None:
    with write_atomic(path, "the plot") as partial:
        figure.savefig(partial, dpi=150)
