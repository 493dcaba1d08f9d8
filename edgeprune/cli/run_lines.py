"""Lines that the summaries of runs share, of one camera and of several."""

import click

from edgeprune.runtime.budget.kept import RATE_FRAMES, BudgetFigures
from edgeprune.runtime.figures import EnergyPerFrame
from edgeprune.runtime.remembered_tokens import MemoryFigures
from edgeprune.runtime.renewal import Renewals
from edgeprune.runtime.summary import RunFigures, WholeRun
from edgeprune.runtime.thing_counts import ThingFigures

MOST_SHOWN = 8  # classes of things, those of which there are most


def show_engine(run: WholeRun) -> None:
    """What ran the graphs."""
    engine = run.engine
    click.echo(
        f"engine   {engine['engine']} {engine['version']} ({engine['provider']}), {engine['precision']}, "
        f"{engine['threads']} threads"
    )


def show_latency(figures: RunFigures) -> None:
    """Of all frames, or of the newest that a long run holds."""
    newest = f"; percentiles are of the newest {figures.newest}" if figures.newest < figures.frames else ""
    ms = figures.latency_ms
    click.echo(
        f"latency  p50 {number(ms.p50)}, p95 {number(ms.p95)}, p99 {number(ms.p99)} ms (frame in hand to labels in "
        f"hand{newest})"
    )


def show_held(run: WholeRun) -> None:
    """Tokens and buckets, how far the budget was kept, new bundles, energy."""
    figures = run.figures
    buckets = ", ".join(f"{name} x{count}" for name, count in figures.buckets.items())
    click.echo(f"tokens   {number(figures.tokens_mean)} a frame over all blocks; buckets {buckets}, by {run.chosen_by}")
    show_memory(figures.memory, figures.frames)
    show_things(figures.things)
    if run.budget:
        show_budget(run.budget, figures.newest or figures.frames)
    show_renewals(run.renewals, run.bundle)
    show_energy(run.energy)


def show_energy(energy: EnergyPerFrame) -> None:
    """Of a frame, gross, and where idle power was measured less that, and idle power itself."""
    mj, above_mj = energy.mj_per_frame, energy.mj_per_frame_above_idle
    idle = "" if energy.idle_w is None else f"; {energy.idle_w:.2f} W when idle"
    above = "" if above_mj is None else f", {above_mj:.1f} above idle"
    click.echo(
        f"energy   {energy.status}{idle}"
        if mj is None
        else f"energy   {mj:.1f} mJ a frame{above}{idle} ({energy.status})"
    )


def show_memory(memory: MemoryFigures | None, frames: int) -> None:
    """What was computed and what carried, where frames remembered."""
    if memory:
        of = "" if memory.frames == frames else f"; in {memory.frames} of {frames} frames"
        click.echo(
            f"memory   {number(memory.computed)} tokens of the grid computed a frame, {number(memory.refreshed)} of them in "
            f"their turn, {number(memory.carried)} carried{of}"
        )


def show_things(things: dict[str, ThingFigures] | None) -> None:
    """How many things of each class a frame has, where they are counted."""
    if things is None:
        return
    ordered = sorted(things.items(), key=lambda item: -item[1].mean)
    said = [f"{name} {number(each.mean, 2)} ({each.most} at most)" for name, each in ordered[:MOST_SHOWN]]
    more = f", {len(ordered) - MOST_SHOWN} more classes" if len(ordered) > MOST_SHOWN else ""
    click.echo(f"things   {', '.join(said) or 'none'}{more}{' a frame' if said else ''}")


def show_renewals(renewals: Renewals | None, bundle: str) -> None:
    """What became of new bundles, where there were some."""
    if renewals and (renewals.switched or renewals.refused):
        click.echo(
            f"bundles  {renewals.switched} switched to, {renewals.rolled_back} of them rolled back, {renewals.refused} "
            f"refused; now {bundle}"
        )


def show_budget(figures: BudgetFigures, frames: int) -> None:
    """How far the budget was kept."""
    kept = []
    for unit, share in figures.held.items():
        judged = figures.judged[unit]
        if share is None:
            kept.append(f"{unit} not judged: {_not_judged(unit, frames)}")
            continue
        of = "the frames" if judged == frames else f"{judged} of {frames} frames, of the others nothing is known"
        over = f"{figures.longest_over[unit]} over in a row at most"
        kept.append(f"{unit} held in {100 * share:.1f}% of {of} (p95 {number(figures.p95[unit])}, {over})")
    smaller = f"{100 * (figures.capped or 0.0):.0f}%"
    capped = f"; {smaller} of the frames got a smaller bucket than they asked for" if figures.capped else ""
    click.echo(f"budget   {figures.budget}: {', '.join(kept)}{capped}")


def _not_judged(unit: str, frames: int) -> str:
    """Why no frame was. A latency and a rate are known of any frame; a power and an energy are means of readings."""
    if not frames or unit in ("ms", "fps"):
        return "there was no frame"
    if frames < RATE_FRAMES:
        return f"too few frames ({frames}; a mean is of {RATE_FRAMES} that each have a reading of the meter)"
    return f"no {RATE_FRAMES} frames in a row have a reading of the meter"


def number(value: float | None, digits: int = 1) -> str:
    """Of a figure; `-` where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
