"""`run`: a camera through a bundle."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

import click

from edgeprune.base.byte_size import read_bytes
from edgeprune.base.ending import asked, ended, hard_stop
from edgeprune.base.errors import EdgepruneError, InputError
from edgeprune.bundle import GRAPH_SETS, Bundle
from edgeprune.cli import STOPPED_RUN, STOPPED_RUN_JSON
from edgeprune.cli.config import names_from_file, naming_config, take_config, warn_of_others
from edgeprune.cli.defaults import open_default
from edgeprune.cli.options import AS_TYPED, bundle_option, json_option, option, threads_option
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import A_RUN, A_WHILE, FRAMES
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.runtime.budget.kept import BudgetFigures
from edgeprune.runtime.budget.wanted import EXAMPLES
from edgeprune.runtime.cameras import camera_files, seen_from, what_to_type
from edgeprune.runtime.choose import CHOOSERS
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import measure_idle, meter_seen_from, meters_to_type
from edgeprune.runtime.meters.none import NoMeter
from edgeprune.runtime.opening import StreamOptions, open_stream
from edgeprune.runtime.pipeline import PIPELINES, refuse_pipeline
from edgeprune.runtime.preparing import open_sensor, require_engine
from edgeprune.runtime.run import CutShort, Limits, Outcome
from edgeprune.runtime.run import run as run_loop
from edgeprune.runtime.sinks import SINKS, outputs_of
from edgeprune.runtime.sinks.segments import KEEP_BYTES
from edgeprune.runtime.summary import RunSummary

logger = logging.getLogger(__name__)

# options whose text may be a path, which a file means as seen from its own folder
PLACES = {"camera": seen_from, "meter": meter_seen_from}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    bundle: Path | None = bundle_option()
    camera: str = option("--camera", default="synthetic://street?seed=1", help=f"{what_to_type()}.")
    frames: int | None = option("--frames", FRAMES, help="Stop after so many frames.")
    seconds: float | None = option("--seconds", A_RUN, help="Stop after so long.")
    precision: str | None = option("--precision", click.Choice(GRAPH_SETS), help="Default: the fastest that was built.")
    bucket: str | None = option("--bucket", help="Always this bucket; default: chosen in each frame.")
    chooser: str | None = option("--chooser", help=f"{' or '.join(CHOOSERS)}; default: {next(iter(CHOOSERS))}.")
    budget: str | None = option(
        "--budget",
        metavar="LIMIT[,LIMIT]",
        help=f"Hold it by smaller buckets: {EXAMPLES}; power and energy by the meter.",
    )
    realtime: bool = option(
        "--realtime", default=False, help="Pace a file at its own rate and drop what comes too fast."
    )
    loop: bool = option("--loop", default=False, help="Start a file again at its end.")
    decode: str | None = option(
        "--decode",
        metavar="HOW",
        help="auto, software or hardware by name; with ,scaled: frames scaled in decoding; default: auto.",
    )
    give_up: str | None = option(
        "--give-up",
        metavar="TIME",
        help="Open a camera that is lost anew for so long: 30s, 5m, 2h; 0: never; default: 5m.",
    )
    meter: str | None = option("--meter", help=f"Energy meter: {meters_to_type()}; default: the target's.")
    idle_seconds: float = option("--idle", A_WHILE, default=0.0, help="Measure idle power for so many seconds first.")
    keep: str | None = option(
        "--keep", metavar="SIZE", help="Disk for each output that is a FOLDER/ without an end; default: 1GB."
    )
    threads: int | None = threads_option()
    pipeline: str | None = option(
        "--pipeline",
        click.Choice(list(PIPELINES)),
        help="Do outputs, or all but the graphs, beside those; default: outputs where a core is free.",
    )
    engine: str | None = option("--engine", help=f"{', '.join(ENGINES)}; default: the target's.")
    json: bool = json_option()
    config: Path | None = option(
        "--config",
        metavar="FILE",
        help="Take options from a YAML file, by their names; what is typed wins.",
        first=take_config(lambda: OPTIONS, PLACES),
    )

    def of_stream(self) -> StreamOptions:
        """What of them a stream is opened with."""
        return StreamOptions(**{name: getattr(self, name) for name in StreamOptions.model_fields})


# and an option for each row of SINKS
OPTIONS: Any = make_dataclass(
    "OPTIONS",
    [
        (
            key,
            str | None,
            option(f"--{key}", AS_TYPED if kind.writes else None, metavar=kind.metavar, help=kind.help),
        )
        for key, kind in SINKS.items()
    ],
    bases=(RunOptions,),
    frozen=True,
    kw_only=True,
)


def run_camera(
    bundle: Bundle, options: RunOptions, outputs: Mapping[str, str], keep_bytes: int = KEEP_BYTES
) -> Outcome:
    """Opens camera, engine and meter, and runs the loop. `outputs`: names by the keys of SINKS; `keep_bytes`: of each
    that is endless."""
    engine = options.engine or bundle.manifest.target.engine
    require_engine(bundle, engine)
    sensor = open_sensor(bundle, options.meter)
    if options.idle_seconds and isinstance(sensor, NoMeter):
        raise InputError(f"--idle measures idle power: {sensor.stop().status}; leave it out")
    # a file is how a service is started, whose bundle may be replaced while it runs
    stream = open_stream(bundle, options.camera, options.of_stream(), sensor, renewed=options.config is not None)
    try:
        idle = measure_idle(sensor, options.idle_seconds) if options.idle_seconds else None
        stream.know_idle(idle.total_w if idle else None)
        limits, idle_w = Limits(options.frames, options.seconds), idle.rails_w if idle else None
        return run_loop(stream, sensor, limits, outputs, idle_w, keep_bytes, options.pipeline)
    finally:
        stream.close()


@verb(
    "run",
    OPTIONS,
    ["edgeprune run --camera 0", "edgeprune run --camera clip.mp4 --out out/overlay.mp4 --record out/frames.csv"],
)
def run(options: RunOptions) -> None:
    """Segment a camera stream and measure it."""
    if options.config:
        warn_of_others(options.config, options.camera)
    with naming_config(options.config, OPTIONS, names_from_file()):
        _run(options)


def _run(options: Any) -> None:
    options.of_stream()  # refuses a pair of options before the bundle is read
    refuse_pipeline(options.pipeline, options.budget is not None)
    outputs = {key: str(name) for key in SINKS if (name := getattr(options, key))}
    written = outputs_of(outputs)
    keep_bytes = read_bytes(options.keep, "--keep") if options.keep else KEEP_BYTES
    if options.keep and not any(output.endless for output in written):
        raise InputError("--keep bounds outputs without an end, such as --record rows/; name one, or leave --keep out")
    try:
        with hard_stop(0):
            opened = open_default(options.bundle)
            inputs = [opened.folder, *camera_files(options.camera)]
            own([output.path for output in written if not output.folder], inputs)
            own([output.path for output in written if output.folder], inputs, folders=True)
            outcome = run_camera(opened, options, outputs, keep_bytes)
    except (KeyboardInterrupt, EdgepruneError) as error:
        # SIGTERM is KeyboardInterrupt too, and what a library makes of it is an error of ours; once there are frames, the
        # loop ends by itself
        if isinstance(error, CutShort) or not (isinstance(error, KeyboardInterrupt) or asked()):
            raise
        ended()
        logger.info(STOPPED_RUN[1])
        if options.json:
            click.echo(STOPPED_RUN_JSON)
        return
    ended()
    if options.json:
        show_json(outcome.summary.to_json())
    else:
        show_summary(outcome.summary)
    if outcome.failure:
        raise outcome.failure


def show_summary(summary: RunSummary) -> None:
    """The summary as a person reads it."""
    figures, energy, latency_ms = summary.figures, summary.energy, summary.figures.latency_ms
    damaged, reconnects = summary.camera.damaged, summary.camera.reconnects
    left_out = f", {damaged} damaged ones left out" if damaged else ""
    left_out += f", {reconnects} reconnection{'s' if reconnects != 1 else ''}" if reconnects else ""
    engine = summary.engine
    newest = f"; percentiles are of the newest {figures.newest}" if figures.newest < figures.frames else ""
    click.echo(
        f"engine   {engine['engine']} {engine['version']} ({engine['provider']}), {engine['precision']}, "
        f"{engine['threads']} threads"
    )
    if summary.camera.decoder:
        click.echo(f"decoder  {summary.camera.decoder}")
    click.echo(f"frames   {figures.frames} ({figures.dropped} dropped{left_out}), {_number(figures.fps)} per second")
    click.echo(
        f"latency  p50 {_number(latency_ms.p50)}, p95 {_number(latency_ms.p95)}, p99 {_number(latency_ms.p99)} ms "
        f"(frame in hand to labels in hand{newest})"
    )
    if summary.camera.live:
        age_ms = figures.age_ms
        click.echo(
            f"age      p50 {_number(age_ms.p50)}, p95 {_number(age_ms.p95)}, p99 {_number(age_ms.p99)} ms "
            "(captured to labels in hand)"
        )
    click.echo(
        f"loop     {PIPELINES[summary.pipeline].said}; its own work {_number(summary.overhead.ms_per_frame, 2)} ms a frame"
    )
    shown = [{"stage": stage, **vars(ms)} for stage, ms in figures.stages_ms.items() if ms.p50 is not None]
    show_table(shown, {"stage": ("stage, ms", ""), "p50": ("p50", ".2f"), "p95": ("p95", ".2f"), "p99": ("p99", ".2f")})
    buckets = ", ".join(f"{name} x{count}" for name, count in figures.buckets.items())
    click.echo(f"tokens   {_number(figures.tokens_mean)} a frame over all blocks; buckets {buckets}")
    if summary.budget:
        show_budget(summary.budget, figures.newest or figures.frames)
    if (renewals := summary.renewals) and (renewals.switched or renewals.refused):
        click.echo(
            f"bundles  {renewals.switched} switched to, {renewals.rolled_back} of them rolled back, {renewals.refused} "
            f"refused; now {summary.bundle}"
        )
    mj = energy.mj_per_frame
    click.echo(f"energy   {energy.status if mj is None else f'{mj:.1f} mJ a frame ({energy.status})'}")
    if summary.failure:  # before what was kept of it; with what to do it is the last line, on standard error
        click.echo(f"failed   {summary.failure.partition('; ')[0]}")
    for path in summary.outputs.values():
        if path:
            click.echo(f"{'kept' if summary.failure else 'wrote':8} {path}")


def show_budget(figures: BudgetFigures, frames: int) -> None:
    """How far the budget was kept."""
    kept = []
    for unit, share in figures.held.items():
        judged = figures.judged[unit]
        of = "the frames" if judged == frames else f"{judged} of {frames} frames, of the others nothing is known"
        held = "-" if share is None else f"{100 * share:.1f}%"
        over = f"{figures.longest_over[unit]} over in a row at most"
        kept.append(f"{unit} held in {held} of {of} (p95 {_number(figures.p95[unit])}, {over})")
    smaller = f"{100 * (figures.capped or 0.0):.0f}%"
    capped = f"; {smaller} of the frames got a smaller bucket than they asked for" if figures.capped else ""
    click.echo(f"budget   {figures.budget}: {', '.join(kept)}{capped}")


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
