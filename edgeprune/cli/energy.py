"""`energy`: millijoules of a frame, by bucket, on this device."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.base.owning import own
from edgeprune.base.table import plain, write_csv, write_json
from edgeprune.bundle import GRAPH_SETS, MIXED, Bundle
from edgeprune.cli.defaults import open_default
from edgeprune.cli.options import bundle_option, json_option, option, threads_option
from edgeprune.cli.ranges import A_WINDOW, ROUNDS
from edgeprune.cli.show import show_json, show_table, show_wide_table
from edgeprune.cli.verb import verb
from edgeprune.evaluate.energy import Plan
from edgeprune.evaluate.energy_figures import MOST_OTHERS
from edgeprune.evaluate.energy_table import EnergyResult, EnergyRow, frames_of_camera, measure_energy
from edgeprune.evaluate.graphs import GraphSelection
from edgeprune.runtime.cameras import camera_files, what_to_type
from edgeprune.runtime.compiling import single_graphs
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import OTHER_METER, Meter, meters_to_type
from edgeprune.runtime.meters.none import NoMeter
from edgeprune.runtime.preparing import open_sensor, prepare_run, refuse_threads, require_engine

COLUMNS = {
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "figures.latency_ms.p50": ("p50 ms", ".2f"),
    "figures.fps": ("frames/s", ".1f"),
    "figures.watts": ("W", ".2f"),
    "figures.mj_per_frame": ("mJ/frame", ".2f"),
    "figures.mj_spread.least": ("min", ".2f"),
    "figures.mj_spread.most": ("max", ".2f"),
    "figures.mj_above_idle": ("above idle", ".2f"),
    "figures.others": ("others", ".0%"),
}
BUSY = {"figures.busy": ("busy", "")}


@dataclass(frozen=True, kw_only=True)
class EnergyOptions:
    bundle: Path | None = bundle_option()
    camera: str | None = option(
        "--camera", help=f"Frames, read before anything is measured: {what_to_type()}; default: scenes of the street."
    )
    seconds: float = option("--seconds", A_WINDOW, default=30.0, help="Window of each graph in each round.")
    rounds: int = option("--rounds", ROUNDS, default=3, help="Interleaved rounds over all graphs.")
    precisions: tuple[str, ...] = option(
        "--precision", click.Choice(GRAPH_SETS), default=(), help="Repeatable; default: what a run takes."
    )
    engine: str | None = option("--engine", help=f"{', '.join(ENGINES)}; default: the target's.")
    threads: int | None = threads_option()
    meter: str | None = option("--meter", help=f"Energy meter: {meters_to_type()}; default: the target's.")
    out: Path | None = option("--out", help="Folder for energy.csv and energy.json.")
    json: bool = json_option()


@verb(
    "energy",
    EnergyOptions,
    [
        "edgeprune energy --out out/energy",
        "edgeprune energy --camera clip.mp4 --meter 'command:plug-watts 192.168.1.30'",
    ],
)
def energy(options: EnergyOptions) -> None:
    """Measure millijoules a frame, by bucket, on this device.

    Speed and energy of the same windows, gross and less idle power. Leave the machine alone meanwhile: a row is marked where
    other processes took more than 5% of the processors.
    """
    opened = open_default(options.bundle)
    inputs = [opened.folder, *(camera_files(options.camera) if options.camera else ())]
    own([options.out], inputs, folders=True)
    result = measure(opened, options)
    paths = write_energy(result, options.out) if options.out else []
    if options.json:
        show_json(result)
        return
    show_energy(result)
    for path in paths:
        click.echo(f"wrote {path}")


def need_sensor(bundle: Bundle, meter: str | None) -> Meter:
    """The meter.

    Raises:
        InputError: there is none, with the reason of those that were looked for.
    """
    sensor = open_sensor(bundle, meter)
    if isinstance(sensor, NoMeter):
        raise InputError(f"energy can't be measured: {sensor.stop().status}; {OTHER_METER}")
    return sensor


def measure(bundle: Bundle, options: EnergyOptions) -> EnergyResult:
    """Opens what is needed, and measures."""
    engine = options.engine or bundle.manifest.target.engine
    require_engine(bundle, engine)
    refuse_threads([engine], options.threads)
    sensor = need_sensor(bundle, options.meter)
    for precision in options.precisions:
        if not (precision == MIXED and bundle.manifest.target.compiled_on_device):  # that one is made here
            bundle.graphs(precision)
    frames = frames_of_camera(bundle, options.camera)
    bundle = prepare_run(bundle, engine, single_graphs(bundle))
    precisions = options.precisions or [bundle.default_precision()]
    graphs = GraphSelection(precisions, threads=options.threads)
    return measure_energy(bundle, sensor, Plan(options.rounds, options.seconds), frames, graphs, engine)


def about_energy(result: EnergyResult) -> list[str]:
    """What stands under the table: by what and how it was measured, and in which state of the machine."""
    first_row = result.rows[0]
    idle, machine, first = result.idle, result.machine, first_row.figures
    before_w, after_w = idle.total_before_w, idle.total_after_w
    rate = "counted by the hardware" if first.sampling_hz is None else f"{first.sampling_hz:.1f} readings a second"
    drift = "" if idle.drift is None else f" ({idle.drift:+.1%})"
    clocks = ", ".join(f"{name} {mhz:.0f} MHz" for name, mhz in first.clocks_mhz.items())
    before_c, after_c = (max(idle.temperature_c[when].values(), default=None) for when in ("before", "after"))
    degrees = f"hottest sensor {before_c:.0f} C idle before, {after_c:.0f} C idle after" if before_c and after_c else ""
    state = [
        f"power mode {machine['power_mode'] or 'unknown'}",
        f"governor {machine['governor'] or 'unknown'}",
        degrees,
    ]
    return [
        f"{result.status}; {rate}",
        f"{result.rounds} rounds of {result.window_s:g} s a graph, {first_row.engine}, {result.threads} threads, over "
        f"{result.source}",
        "one frame after the other, and nothing else of a run: no camera, no overlay",
        f"idle, graphs open: {before_w:.2f} W before, {after_w:.2f} W after{drift}; their mean is subtracted",
        "; ".join(filter(None, state)),
        *([f"while {first_row.bucket} ran: {clocks}"] if clocks else []),
    ]


def about_others(result: EnergyResult) -> list[str]:
    """Lines for what others took of the processors, where that is more than figures of this machine alone allow."""
    lines = []
    if any(row.figures.busy for row in result.rows):
        lines.append(f"busy: others took over {MOST_OTHERS:.0%} of the processors in a window of that row")
    if result.idle.others is not None and result.idle.busy:
        lines.append(
            f"idle: others took {result.idle.others:.0%} of the processors, and what they cost is subtracted, too"
        )
    return [*lines, "others: `top` names them; stop them, and measure again"] if lines else []


def rails_of(row: EnergyRow) -> dict[str, Any]:
    """A row of the table of rails."""
    rails = row.figures.rails
    gross = {rail: each.mj_per_frame for rail, each in rails.items()}
    above = {f"{rail} above idle": each.mj_above_idle for rail, each in rails.items()}
    return {"bucket": row.bucket, "precision": row.precision, **gross, **above}


def show_energy(result: EnergyResult) -> None:
    """The table, that of the rails where there is more than the total, and what there is to say of them."""
    show_table(result.rows, COLUMNS | BUSY if any(row.figures.busy for row in result.rows) else COLUMNS)
    rails = list(result.rows[0].figures.rails)
    if rails != result.total_of:
        click.echo("mJ a frame by rail (rails may contain each other):")
        keys = {"bucket": ("bucket", ""), "precision": ("precision", "")}
        rows = [rails_of(row) for row in result.rows]
        columns = {name: (name, ".2f") for rail in rails for name in (rail, f"{rail} above idle")}
        show_wide_table(rows, keys, columns)
    for line in (*about_others(result), *about_energy(result)):
        click.echo(line)


def write_energy(result: EnergyResult, folder: Path) -> list[Path]:
    """The rows as CSV, with the state of the machine in each; everything as JSON."""
    paths = [folder / "energy.csv", folder / "energy.json"]
    state = {
        "idle_before_w": result.idle.total_before_w,
        "idle_after_w": result.idle.total_after_w,
        "idle_others": result.idle.others,
        "power_mode": result.machine["power_mode"],
        "governor": result.machine["governor"],
        "status": result.status,
    }
    rows = []
    for row in result.rows:
        flat = {"bucket": row.bucket, "precision": row.precision, "engine": row.engine, **plain(row.figures)}
        least, most = row.figures.mj_spread
        rows.append(flat | {"mj_spread": {"least": least, "most": most}} | state)
    write_csv(paths[0], rows)
    write_json(paths[1], result)
    return paths
