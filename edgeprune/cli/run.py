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
from edgeprune.base.owning import own
from edgeprune.bundle import GRAPH_SETS, Bundle
from edgeprune.cli import STOPPED_RUN, STOPPED_RUN_JSON
from edgeprune.cli.config import names_from_file, naming_config, take_config, warn_of_others
from edgeprune.cli.defaults import open_default
from edgeprune.cli.options import (
    AS_TYPED,
    bundle_option,
    json_option,
    key_of_file,
    option,
    refuse_typed,
    threads_option,
)
from edgeprune.cli.ranges import A_RUN, A_WHILE, FRAMES
from edgeprune.cli.run_lines import number, show_engine, show_held, show_latency
from edgeprune.cli.several import show_several
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.runtime.budget.wanted import EXAMPLES
from edgeprune.runtime.cameras import seen_from, what_to_type
from edgeprune.runtime.choose import CHOOSERS
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import OTHER_METER, Meter, measure_idle, meter_seen_from, meters_to_type
from edgeprune.runtime.meters.none import NoMeter
from edgeprune.runtime.opening import StreamOptions, open_stream
from edgeprune.runtime.pipeline import PIPELINES, refuse_pipeline
from edgeprune.runtime.preparing import open_sensor, require_engine
from edgeprune.runtime.run import CutShort, Limits, Outcome
from edgeprune.runtime.run import run as run_loop
from edgeprune.runtime.several.names import check_cameras, outputs_of_cameras
from edgeprune.runtime.several.opening import files_of, open_several, refuse_for_several
from edgeprune.runtime.several.run import run_several
from edgeprune.runtime.several.summary import SeveralOutcome
from edgeprune.runtime.sinks import SINKS, Output, outputs_of
from edgeprune.runtime.sinks.segments import KEEP_BYTES
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.summary import RunSummary

logger = logging.getLogger(__name__)

# options whose text may be a path, which a file means as seen from its own folder
PLACES = {"camera": seen_from, "cameras": seen_from, "meter": meter_seen_from}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    bundle: Path | None = bundle_option()
    camera: str = option("--camera", default="synthetic://street?seed=1", help=f"{what_to_type()}.")
    cameras: Mapping[str, str] | None = key_of_file("--cameras")
    frames: int | None = option("--frames", FRAMES, help="Stop after so many frames.")
    seconds: float | None = option("--seconds", A_RUN, help="Stop after so long.")
    precision: str | None = option("--precision", click.Choice(GRAPH_SETS), help="Default: the fastest that was built.")
    bucket: str | None = option("--bucket", help="Always this bucket; default: chosen in each frame.")
    chooser: str | None = option(
        "--chooser",
        help=f"{' or '.join(CHOOSERS)}, the last with memory, others without; default: {next(iter(CHOOSERS))}.",
    )
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
        help="Open a camera that is lost, or not there yet, anew for so long: 30s, 5m, 2h; 0: never; default: 5m where it was "
        "there.",
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


def check_options(options: RunOptions) -> None:
    """Refuses pairs of options before the bundle is read.

    Raises:
        InputError: names them.
    """
    of_stream = options.of_stream()
    if options.cameras:
        check_cameras(options.cameras)
        refuse_for_several(of_stream)
    refuse_pipeline(options.pipeline, options.budget is not None)


def outputs_named(options: Any) -> tuple[dict[str, dict[str, str]], list[Output]]:
    """Of each camera's name (of one alone: of "") the outputs by the keys of SINKS; and all that is written.

    Raises:
        InputError: an output can't be; or `keep` is no size, or bounds nothing.
    """
    names = {key: str(name) for key in SINKS if (name := getattr(options, key))}
    outputs = outputs_of_cameras(names, options.cameras) if options.cameras else {"": names}
    written = [output for each in outputs.values() for output in outputs_of(each)]
    if options.keep:
        read_bytes(options.keep, "--keep")
        if not any(output.endless for output in written):
            raise InputError(
                "--keep bounds outputs without an end, such as --record rows/; name one, or leave --keep out"
            )
    return outputs, written


def run_camera(
    bundle: Bundle, options: RunOptions, outputs: Mapping[str, str], keep_bytes: int = KEEP_BYTES
) -> Outcome:
    """Opens camera, engine and meter, and runs the loop. `outputs`: names by the keys of SINKS; `keep_bytes`: of each
    that is endless."""
    sensor = _open_sensor(bundle, options)
    # a file is how a service is started, whose bundle may be replaced while it runs
    renewed, later = options.config is not None, options.idle_seconds > 0
    stream = open_stream(bundle, options.camera, options.of_stream(), sensor, renewed=renewed, later=later)
    try:
        idle_w = _idle_w(stream, sensor, options.idle_seconds)
        limits = Limits(options.frames, options.seconds)
        return run_loop(stream, sensor, limits, outputs, idle_w, keep_bytes, options.pipeline)
    finally:
        stream.close()


def run_cameras(
    bundle: Bundle,
    cameras: Mapping[str, str],
    options: RunOptions,
    outputs: Mapping[str, Mapping[str, str]],
    keep_bytes: int = KEEP_BYTES,
) -> SeveralOutcome:
    """The same with several cameras. `outputs`: of each camera by its name."""
    sensor = _open_sensor(bundle, options)
    renewed, later = options.config is not None, options.idle_seconds > 0
    opened = open_several(bundle, cameras, options.of_stream(), sensor, renewed=renewed, later=later)
    try:
        idle_w = _idle_w(opened.stream, sensor, options.idle_seconds)
        return run_several(opened, sensor, Limits(options.frames, options.seconds), outputs, idle_w, keep_bytes)
    finally:
        opened.close()


def _open_sensor(bundle: Bundle, options: RunOptions) -> Meter:
    """The meter that was asked for; refuses what has no use without one."""
    require_engine(bundle, options.engine or bundle.manifest.target.engine)
    sensor = open_sensor(bundle, options.meter)
    if options.idle_seconds and isinstance(sensor, NoMeter):
        raise InputError(f"--idle measures idle power: {sensor.stop().status}; leave it out; {OTHER_METER}")
    return sensor


def _idle_w(stream: Stream, sensor: Meter, seconds: float) -> dict[str, float] | None:
    """What the machine takes when idle, graphs open and cameras not, by rail, where that is to be measured; a budget hears of
    it."""
    idle = measure_idle(sensor, seconds) if seconds else None
    stream.know_idle(idle.total_w if idle else None)
    return idle.rails_w if idle else None


@verb(
    "run",
    OPTIONS,
    ["edgeprune run --camera 0", "edgeprune run --camera clip.mp4 --out out/overlay.mp4 --record out/frames.csv"],
)
def run(options: RunOptions) -> None:
    """Segment a camera stream and measure it."""
    if options.config:
        warn_of_others(options.config, options.cameras.values() if options.cameras else [options.camera])
    with naming_config(options.config, OPTIONS, names_from_file()):
        if options.cameras:
            refuse_typed("the configuration names several cameras", "camera")
            refuse_typed("the frames of several cameras go through the loop one after the other", "pipeline")
        _run(options)


def _run(options: Any) -> None:
    check_options(options)
    cameras = options.cameras or {"": options.camera}
    outputs, written = outputs_named(options)
    keep_bytes = read_bytes(options.keep, "--keep") if options.keep else KEEP_BYTES
    try:
        with hard_stop(0):
            opened = open_default(options.bundle)
            inputs = [opened.folder, *files_of(cameras)]
            own([output.path for output in written if not output.folder], inputs)
            endless = [output.path for output in written if output.endless]
            own([output.path for output in written if output.folder], inputs, folders=True, endless=endless)
            outcome: Outcome | SeveralOutcome
            if options.cameras:
                outcome = run_cameras(opened, cameras, options, outputs, keep_bytes)
            else:
                outcome = run_camera(opened, options, outputs[""], keep_bytes)
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
    elif isinstance(outcome.summary, RunSummary):
        show_summary(outcome.summary)
    else:
        show_several(outcome.summary)
    if outcome.failure:
        raise outcome.failure


def show_summary(summary: RunSummary) -> None:
    """The summary as a person reads it."""
    figures = summary.figures
    damaged, reconnects = summary.camera.damaged, summary.camera.reconnects
    left_out = f", {damaged} damaged ones left out" if damaged else ""
    left_out += f", {reconnects} reconnection{'s' if reconnects != 1 else ''}" if reconnects else ""
    show_engine(summary)
    if summary.camera.decoder:
        click.echo(f"decoder  {summary.camera.decoder}")
    click.echo(f"frames   {figures.frames} ({figures.dropped} dropped{left_out}), {number(figures.fps)} per second")
    show_latency(figures)
    if summary.camera.live:
        age_ms = figures.age_ms
        click.echo(
            f"age      p50 {number(age_ms.p50)}, p95 {number(age_ms.p95)}, p99 {number(age_ms.p99)} ms "
            "(captured to labels in hand)"
        )
    click.echo(
        f"loop     {PIPELINES[summary.pipeline].said}; its own work {number(summary.overhead.ms_per_frame, 2)} ms a frame"
    )
    shown = [{"stage": stage, **vars(ms)} for stage, ms in figures.stages_ms.items() if ms.p50 is not None]
    show_table(shown, {"stage": ("stage, ms", ""), "p50": ("p50", ".2f"), "p95": ("p95", ".2f"), "p99": ("p99", ".2f")})
    show_held(summary)
    if summary.failure:  # before what was kept of it; with what to do it is the last line, on standard error
        click.echo(f"failed   {summary.failure.partition('; ')[0]}")
    for path in summary.outputs.values():
        if path:
            click.echo(f"{'kept' if summary.failure else 'wrote':8} {path}")
