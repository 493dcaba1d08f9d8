"""How a run of several cameras is shown."""

import click

from edgeprune.cli.run_lines import number, show_budget, show_renewals
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
    engine, figures, energy = summary.engine, summary.figures, summary.energy
    click.echo(
        f"engine   {engine['engine']} {engine['version']} ({engine['provider']}), {engine['precision']}, "
        f"{engine['threads']} threads"
    )
    rows = [
        {
            "camera": name,
            "frames": each.figures.frames,
            "dropped": each.figures.dropped,
            "fps": each.figures.fps,
            "p50": each.figures.latency_ms.p50,
            "p95": each.figures.latency_ms.p95,
            "age": each.figures.age_ms.p50,
            "reconnects": each.camera.reconnects,
            "ended": each.ended,
        }
        for name, each in summary.cameras.items()
    ]
    show_table(rows, COLUMNS)
    newest = f"; percentiles are of the newest {figures.newest}" if figures.newest < figures.frames else ""
    latency_ms = figures.latency_ms
    click.echo(f"all      {figures.frames} frames ({figures.dropped} dropped), {number(figures.fps)} per second")
    click.echo(
        f"latency  p50 {number(latency_ms.p50)}, p95 {number(latency_ms.p95)}, p99 "
        f"{number(latency_ms.p99)} ms (frame in hand to labels in hand{newest})"
    )
    buckets = ", ".join(f"{name} x{count}" for name, count in figures.buckets.items())
    click.echo(f"tokens   {number(figures.tokens_mean)} a frame over all blocks; buckets {buckets}")
    if summary.budget:
        show_budget(summary.budget, figures.newest or figures.frames)
    show_renewals(summary.renewals, summary.bundle)
    mj = energy.mj_per_frame
    click.echo(f"energy   {energy.status if mj is None else f'{mj:.1f} mJ a frame ({energy.status})'}")
    for name, each in summary.cameras.items():
        for path in each.outputs.values():
            if path:
                click.echo(f"{'kept' if each.failure else 'wrote':8} {path} ({name})")
