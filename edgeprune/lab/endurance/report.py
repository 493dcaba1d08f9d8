"""The report of a run of endurance: Markdown with a picture beside it."""

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.evaluate.plot import OTHER_COLOUR, new_figure, save, style
from edgeprune.evaluate.record_plot import bucket_colours, bucket_dot, draw_drops, draw_latency, time_unit, times_s
from edgeprune.evaluate.record_rows import RunRecord
from edgeprune.lab.endurance.checks import MOST_GROWTH, Check, Seen, growth
from edgeprune.lab.endurance.watching import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"resident_mb": "#3b6fb6", "anonymous_mb": "#2a9d8f"}
CALLED = {"resident_mb": "resident", "anonymous_mb": "of it anonymous"}


def write_report(path: Path, title: str, typed: str, seen: Seen, checks: Sequence[Check], tables: str) -> None:
    """Writes `path` and the picture of the same name.

    Args:
        title: what was run.
        typed: the command that makes this report.
        tables: what `edgeprune report` says of the record.
    """
    picture = path.with_suffix(".png")
    plot(seen.samples, seen.record, picture)
    lines = [f"# {title}", "", *_about(seen), "", "```sh", typed, "```", ""]
    lines += ["| | expected | found | |", "|---|---|---|---|"]
    lines += [f"| {each.what} | {each.wanted} | {each.found} | {each.verdict} |" for each in checks]
    lines += ["", f"![Memory, latency and drops over time]({picture.name})", "", *_memory(seen.samples), ""]
    lines += ["What `edgeprune report` says of the record:", "", "```", tables.rstrip(), "```"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _about(seen: Seen) -> list[str]:
    """What ran where."""
    summary, engine, machine = seen.summary, seen.summary["engine"], seen.summary["machine"]
    seconds = seen.samples[-1].at_s - seen.samples[0].at_s
    quiet = "with nothing else running" if seen.quiet else "beside other work, so latency is no check"
    return [
        f"{datetime.now(timezone.utc):%Y-%m-%d}: {summary['model']} in {engine['precision'].upper()}, {engine['engine']} "
        f"{engine['version']} with {engine['threads']} threads on {machine['cores']} cores of {_one_word(machine['cpu'])}, "
        f"{quiet}. A clip of {summary['camera']['fps']:g} frames a second, looped and paced, {seconds / 60:.1f} minutes with "
        "a viewer who plays the page; rows and the overlay's film go into folders."
    ]


def _one_word(name: Any) -> str:
    return " ".join(str(name).split())


def _memory(samples: Sequence[Sample]) -> list[str]:
    """Resident memory at a few moments."""
    medians = growth(samples)
    minutes = f"{medians[0]:.1f} MB in the second minute, {medians[1]:.1f} MB in the last, " if medians else ""
    values = [each.resident_mb for each in samples]
    threads, files = ([getattr(each, name) for each in samples] for name in ("threads", "files"))
    return [
        f"Resident memory: {values[0]:.1f} MB at the first frame, {minutes}{max(values):.1f} MB at most (median of all "
        f"{median(values):.1f} MB). Threads: {min(threads)} to {max(threads)}; open files: {min(files)} to {max(files)}."
    ]


def plot(samples: Sequence[Sample], record: RunRecord, path: Path) -> None:
    """Memory, latency in the colours of the buckets, and drops, over one time.

    Raises:
        InputError: matplotlib is missing, or the path can't be written.
    """
    time_s = times_s(record)
    unit, unit_s = time_unit(float(time_s[-1]))
    figure = new_figure(9.0, 7.0)
    memory, latency, drops = figure.subplots(3, 1, sharex=True, height_ratios=[1.5, 2.4, 1.0])
    _draw_memory(memory, samples, unit_s)
    colours = bucket_colours([record])
    draw_latency(latency, record, time_s / unit_s, colours)
    latency.set_title("")
    draw_drops(drops, record, time_s / unit_s)
    for axes, name in ((memory, "memory (MB)"), (latency, "latency (ms)"), (drops, "dropped")):
        style(axes)
        axes.set(ylabel=name)
    drops.set(xlabel=f"{unit} since the first frame")
    drops.set_xlim(0, max(float(time_s[-1]) / unit_s, 1e-9))
    handles = [bucket_dot(latency, name, colour) for name, colour in colours.items()]
    figure.legend(
        handles=handles, title="bucket", fontsize=8, title_fontsize=8, frameon=False, loc="outside upper right", ncols=8
    )
    save(figure, path)


def _draw_memory(axes: "Axes", samples: Sequence[Sample], unit_s: float) -> None:
    """From zero, with the bound that it has to keep to."""
    at = (np.array([each.at_s for each in samples]) - samples[0].at_s) / unit_s
    for name, colour in COLOURS.items():
        axes.plot(at, [getattr(each, name) for each in samples], color=colour, lw=1.4, label=CALLED[name])
    if medians := growth(samples):
        most_mb = medians[0] * (1 + MOST_GROWTH)
        axes.axhline(most_mb, color=OTHER_COLOUR, lw=0.9, ls="--", label=f"{MOST_GROWTH:.0%} above the second minute")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, loc="lower right", ncols=3)
