"""Records of runs as pictures: latency over time in the colours of the buckets, how it is spread, power, drops."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError
from edgeprune.evaluate.plot import GREY, OTHER_COLOUR, new_figure, save, style
from edgeprune.evaluate.record_figures import by_tokens, intervals_s, spans
from edgeprune.evaluate.record_rows import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_RECORDS = 4  # side by side
MOST_POINTS = 20_000  # of a record
STRETCHES = 200  # of time, over which power and drops are taken together
BARS = 60
MEANS = {"watts": "#8a5fa8", "celsius": "#d1602b"}  # columns that are drawn as lines
DROPS = "#c0392b"
UNITS = (
    ("days", 86_400.0, 3.0),
    ("hours", 3600.0, 3.0),
    ("minutes", 60.0, 3.0),
    ("seconds", 1.0, 0.0),
)  # from so many on


def plot_records(records: Sequence[RunRecord], path: Path) -> None:
    """A column for each record, all of one scale.

    Raises:
        InputError: there are more than MOST_RECORDS, matplotlib is missing, or the path can't be written.
    """
    if len(records) > MOST_RECORDS:
        raise InputError(
            f"{len(records)} records have no room in one plot; name at most {MOST_RECORDS}, or leave --out out"
        )
    means = [name for name in MEANS if any(not np.isnan(record.real[name]).all() for record in records)]
    rows = ["latency", "spread", *means, "drops"]
    heights = {"latency": 2.4, "spread": 1.6, "watts": 1.2, "celsius": 1.0, "drops": 1.0}
    figure = new_figure(max(9.0, 5.2 * len(records)), 1.15 * sum(heights[row] for row in rows) + 0.6)
    grid = figure.subplots(
        len(rows), len(records), squeeze=False, sharey="row", height_ratios=[heights[row] for row in rows]
    )
    colours = bucket_colours(records)
    edges = _edges(records)
    for column, record in enumerate(records):
        time_s = times_s(record)
        unit, unit_s = time_unit(float(time_s[-1]))
        axes = dict(zip(rows, grid[:, column], strict=True))
        draw_latency(axes["latency"], record, time_s / unit_s, colours)
        _draw_spread(axes["spread"], record, edges, colours)
        for name in means:
            _draw_means(axes[name], record, name, time_s / unit_s)
        draw_drops(axes["drops"], record, time_s / unit_s)
        for name in rows:
            style(axes[name])
            if name != "spread":
                axes[name].set_xlim(0, max(float(time_s[-1]) / unit_s, 1e-9))
                for begin in record.begins[1:]:
                    axes[name].axvline(time_s[begin] / unit_s, color=GREY, lw=0.8, ls=":")
        axes["spread"].set(xlabel="latency (ms); the last bar has all that are slower")
        axes["drops"].set(xlabel=f"{unit} since the first frame" + (f" (begun {record.began})" if record.began else ""))
    if "watts" in means:
        grid[rows.index("watts"), 0].set_ylim(bottom=0)
    _name_rows(dict(zip(rows, grid[:, 0], strict=True)))
    handles = [bucket_dot(grid[0, 0], name, colour) for name, colour in colours.items()]
    figure.legend(
        handles=handles, title="bucket", fontsize=8, title_fontsize=8, frameon=False, loc="outside upper right", ncols=8
    )
    save(figure, path)


def times_s(record: RunRecord) -> npt.NDArray[np.float64]:
    """When each frame's labels were there, in seconds since the first start; of several runs one after the other."""
    times = np.empty(len(record))
    before = 0.0
    for first, last in spans(record):
        of_run = slice(first, last + 1)
        times[of_run] = before + (record.whole["end_ns"][of_run] - record.whole["start_ns"][first]) / 1e9
        before = float(times[last])
    return times


def time_unit(seconds: float) -> tuple[str, float]:
    """What a time axis of that length is in."""
    return next((name, size) for name, size, least in UNITS if seconds >= least * size)


def bucket_colours(records: Sequence[RunRecord]) -> dict[str, Any]:
    """Of the buckets of all records, from few tokens to many."""
    from matplotlib import colormaps

    tokens: dict[str, float] = {}
    for record in records:
        for place in by_tokens(record):
            tokens.setdefault(record.names[place], float(record.whole["tokens"][record.bucket == place].mean()))
    names = sorted(tokens, key=lambda name: tokens[name])
    return {name: colormaps["viridis"](0.85 * (1 - index / max(1, len(names) - 1))) for index, name in enumerate(names)}


def _edges(records: Sequence[RunRecord]) -> npt.NDArray[np.float64]:
    """Of the bars of the spread; the slowest thousandth is in the last bar."""
    latencies = np.concatenate([record.real["latency_ms"] for record in records])
    least, most = float(latencies.min()), float(np.percentile(latencies, 99.9))
    return np.linspace(0.95 * least, max(1.02 * most, 0.95 * least + 1e-3), BARS + 1)


def _chosen(record: RunRecord) -> npt.NDArray[np.int64]:
    """The places of the rows that are drawn: all, or some spread evenly and the slowest of each stretch."""
    if len(record) <= MOST_POINTS:
        return np.arange(len(record))
    even = np.linspace(0, len(record) - 1, MOST_POINTS // 2).round().astype(np.int64)
    pieces = np.array_split(np.arange(len(record)), MOST_POINTS // 2)
    slowest = [int(piece[np.argmax(record.real["latency_ms"][piece])]) for piece in pieces]
    return np.unique(np.concatenate([even, slowest]))


def draw_latency(axes: "Axes", record: RunRecord, time: npt.NDArray[np.float64], colours: Mapping[str, Any]) -> None:
    chosen = _chosen(record)
    kinds = [colours[record.names[place]] for place in record.bucket[chosen]]
    size = 14 if len(chosen) < 500 else 5 if len(chosen) < 5000 else 2
    axes.scatter(time[chosen], record.real["latency_ms"][chosen], s=size, c=kinds, linewidths=0, rasterized=True)
    part = f"{len(chosen):,} of " if len(chosen) < len(record) else ""
    among = ", the slowest of each stretch among them" if part else ""
    axes.set_title(f"{str(record.path)[-60:]}\n{part}{len(record):,} frames{among}", fontsize=8, loc="left")
    axes.set_ylim(bottom=0)


def _draw_spread(axes: "Axes", record: RunRecord, edges: npt.NDArray[np.float64], colours: Mapping[str, Any]) -> None:
    places = by_tokens(record)
    values = [np.minimum(record.real["latency_ms"][record.bucket == place], edges[-1]) for place in places]
    weights = [np.full(len(each), 100 / len(record)) for each in values]
    names = [record.names[place] for place in places]
    axes.hist(values, list(edges), weights=weights, stacked=True, color=[colours[name] for name in names])
    p50, p95, p99 = np.percentile(record.real["latency_ms"], [50, 95, 99])
    for at in (p50, p95, p99):
        axes.axvline(at, color=OTHER_COLOUR, lw=0.9, ls="--")
    text = f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms"
    axes.annotate(text, (1, 1), xycoords="axes fraction", ha="right", va="bottom", fontsize=8, color=OTHER_COLOUR)


def _stretches(time: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """In which stretch each row lies, and the edges of all."""
    count = int(min(STRETCHES, max(1, len(time) // 5)))
    edges = np.linspace(0, max(float(time[-1]), 1e-9), count + 1)
    return np.clip(np.searchsorted(edges, time, "right") - 1, 0, count - 1), edges


def _draw_means(axes: "Axes", record: RunRecord, column: str, time: npt.NDArray[np.float64]) -> None:
    """The mean of each stretch, by time; where no row has a value there is a gap."""
    values, interval_s = record.real[column], intervals_s(record)
    known = ~np.isnan(values)
    if not known.any():
        axes.annotate("no sensor", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=OTHER_COLOUR)
        return
    stretch, edges = _stretches(time)
    count = len(edges) - 1
    sums = np.bincount(stretch[known], (values * interval_s)[known], count)
    seconds = np.bincount(stretch[known], interval_s[known], count)
    with np.errstate(invalid="ignore", divide="ignore"):
        axes.plot(
            (edges[1:] + edges[:-1]) / 2, sums / seconds, color=MEANS[column], lw=1.2, marker="." if count == 1 else ""
        )


def draw_drops(axes: "Axes", record: RunRecord, time: npt.NDArray[np.float64]) -> None:
    from matplotlib.ticker import MaxNLocator

    stretch, edges = _stretches(time)
    dropped = np.bincount(stretch, record.whole["dropped"], len(edges) - 1)
    axes.bar(edges[:-1], dropped, width=np.diff(edges), align="edge", color=DROPS)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    if not dropped.any():
        axes.set_yticks([0])
        axes.annotate("none", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=OTHER_COLOUR)


def _name_rows(axes: Mapping[str, "Axes"]) -> None:
    labels = {
        "latency": "latency (ms)",
        "spread": "% of frames",
        "watts": "power (W)",
        "celsius": "hottest (°C)",
        "drops": "dropped",
    }
    for name, each in axes.items():
        each.set(ylabel=labels[name])


def bucket_dot(axes: "Axes", name: str, colour: Any) -> Any:
    return axes.scatter([], [], s=30, color=colour, linewidths=0, label=name)
