"""The plot of a scaling study: what a larger input costs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.base.errors import InputError
from edgeprune.evaluate.plot import COLOURS, OTHER_COLOUR, new_figure, save, style
from edgeprune.lab.scaling import ScalingRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# what is shown, and how: every bucket lies between the first and the full one
LINES = {"dense": "*-", "full": "o--", "bucket 1": "o:", "trunk": ".-."}


def plot_scaling(rows: Sequence[ScalingRow], path: Path) -> None:
    """Median latency (both axes logarithmic) and peak memory against the tokens of the full grid, a line per graph.

    Dense is drawn solid, `full` dashed, the rest thin; a colour for each precision, a pair of panels for each engine. Graphs
    that were not measured at every size are left out where there are several.

    Raises:
        InputError: there are no rows, matplotlib is missing, the path can't be written.
    """
    if not rows:
        raise InputError("nothing to plot: no size was measured")
    engines = list(dict.fromkeys(row.engine for row in rows))
    figure = new_figure(7.2, 3.4 * len(engines))
    panels = figure.subplots(len(engines), 2, squeeze=False)
    for engine, (left, right) in zip(engines, panels, strict=True):
        own = [row for row in rows if row.engine == engine]
        _draw(left, own, lambda row: row.latency_ms.p50, "latency (ms)")
        _draw(right, own, lambda row: row.peak_mb, "peak memory (MB)")
        left.set_yscale("log")
        right.set_ylim(bottom=0)
        left.set_title(engine, loc="left", fontsize=9)
        left.legend(frameon=False, fontsize=7)
    save(figure, path)


def _draw(axes: "Axes", rows: Sequence[ScalingRow], figure_of: Callable[[ScalingRow], float | None], what: str) -> None:
    """One panel: a line per graph."""
    sizes = sorted({row.tokens for row in rows})
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in rows:
        if row.series in LINES and (figure := figure_of(row)) is not None:
            lines.setdefault((row.series, row.precision), []).append((row.tokens, figure))
    for (series, precision), line in lines.items():
        if len(line) == len(sizes):
            colour = COLOURS.get(precision, OTHER_COLOUR)
            label = f"{series} {precision}"
            axes.plot(*zip(*sorted(line), strict=True), LINES[series], color=colour, lw=1.4, ms=4, label=label)
    axes.set(xscale="log", xlabel="tokens of the full grid", ylabel=what)
    axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=7)
    axes.minorticks_off()
    style(axes)
