"""How a run of several cameras is shown."""

import click

from edgeprune.cli.run_lines import number, show_engine, show_held, show_latency
from edgeprune.cli.show import show_table
from edgeprune.runtime.several.summary import SeveralSummary

COLUMNS = {
    "camera": ("camera", ""),
    "frames": ("frames", "d"),
    "dropped": ("dropped", "d"),
    "fps": ("a second", ".1f"),
    "p50": ("p50 ms", ".1f"),
    "p95": ("p95 ms", ".1f"),
    "age": ("age p50", ".1f"),
    "reconnects": ("reconnections", "d"),
    "ended": ("ended", ""),
}


def show_several(summary: SeveralSummary) -> None:
    """The summary as a person reads it: a line for each camera, then what is of all."""
    figures = summary.figures
    show_engine(summary)
    rows = [
        {
            "camera": name,
            "frames": each.figures.frames,
            "dropped": each.figures.dropped,
            "fps": each.figures.fps,
            "p50": each.figures.latency_ms.p50,
            "p95": each.figures.latency_ms.p95,
            "age": each.figures.age_ms.p50 if each.camera.live else None,
            "reconnects": each.camera.reconnects,
            "ended": each.ended,
        }
        for name, each in summary.cameras.items()
    ]
    show_table(rows, COLUMNS)
    click.echo(f"all      {figures.frames} frames ({figures.dropped} dropped), {number(figures.fps)} per second")
    show_latency(figures)
    show_held(summary)
    for name, each in summary.cameras.items():
        for path in each.outputs.values():
            if path:
                click.echo(f"{'kept' if each.failure else 'wrote':8} {path} ({name})")
