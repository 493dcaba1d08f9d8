"""`run`: a camera through a bundle."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edgeprune.base.ending import asked, ended, ending, hard_stop
from edgeprune.base.errors import EdgepruneError, InputError
from edgeprune.bundle import Bundle
from edgeprune.cli import STOPPED_RUN, STOPPED_RUN_JSON
from edgeprune.cli.defaults import PRECISIONS, open_default
from edgeprune.cli.device import open_sensor, prepare_run, require_engine
from edgeprune.cli.measure import check_threads
from edgeprune.cli.options import bundle_option, json_option, option, threads_option
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import A_RUN, A_WHILE, FRAMES
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras import kind_of, open_source
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import METERS, measure_idle
from edgeprune.runtime.meters.none import NoMeter
from edgeprune.runtime.run import CutShort, Outcome
from edgeprune.runtime.run import run as run_loop
from edgeprune.runtime.sinks.encode import check_video_name
from edgeprune.runtime.sinks.record import check_record_name

logger = logging.getLogger(__name__)


def camera_files(camera: str) -> list[Path]:
    """What is read of a camera URI that names something on the disk: a video, an image, the images of a folder."""
    kind, path = kind_of(camera), Path(camera)
    if kind == "images" and path.is_dir():
        return [each for each in path.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES]
    return [path] if kind in ("video", "images") else []


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    bundle: Path | None = bundle_option()
    camera: str = option(
        "--camera",
        default="synthetic://street?seed=1",
        help="0, /dev/video0, a video file, a folder of images, rtsp://, csi://0 or synthetic://street?seed=1.",
    )
    frames: int | None = option("--frames", FRAMES, help="Stop after so many frames.")
    seconds: float | None = option("--seconds", A_RUN, help="Stop after so long.")
    out: Path | None = option("--out", help="Overlay video (.mp4).")
    record: Path | None = option("--record", help="A row per frame (.csv or .jsonl).")
    precision: str | None = option("--precision", click.Choice(PRECISIONS), help="Default: the fastest that was built.")
    bucket: str | None = option("--bucket", help="Always this bucket; default: chosen in each frame.")
    chooser: str = option("--chooser", default="in-frame", without="bucket", help="in-frame or previous-frame.")
    realtime: bool = option(
        "--realtime", default=False, help="Pace a file at its own rate and drop what comes too fast."
    )
    loop: bool = option("--loop", default=False, help="Start a file again at its end.")
    meter: str | None = option("--meter", help=f"Energy meter: {', '.join(METERS)}; default: the target's.")
    idle_seconds: float = option("--idle", A_WHILE, default=0.0, help="Measure idle power for so many seconds first.")
    threads: int | None = threads_option()
    engine: str | None = option("--engine", help=f"{', '.join(ENGINES)}; default: the target's.")
    json: bool = json_option()


def run_camera(bundle: Bundle, options: RunOptions) -> Outcome:
    """Opens camera, engine and meter, and runs the loop."""
    manifest, bucket = bundle.manifest, options.bucket
    engine = options.engine or manifest.target.engine
    opener = require_engine(bundle, engine)
    check_threads([engine], options.threads)
    # a wrong name is refused before minutes are spent on compiling; what is chosen from is known after that
    chooser = "fixed" if bucket else options.chooser
    make_chooser(chooser, manifest.buckets, bucket)
    sensor = open_sensor(bundle, options.meter)
    if options.idle_seconds and isinstance(sensor, NoMeter):
        raise InputError(f"--idle measures idle power: {sensor.stop().status}; leave it out")
    within = (manifest.height, manifest.width)
    source = open_source(options.camera, realtime=options.realtime, loop=options.loop, within=within)
    if source.note:
        logger.info(source.note)
    bundle = prepare_run(bundle, engine)
    precision = options.precision or bundle.default_precision()
    able, lines = ([bucket], []) if bucket else opener.able(bundle, precision)
    for line in lines:
        logger.warning(line)
    buckets = [entry for entry in bundle.manifest.buckets if bucket or entry.name in able]
    policy = make_chooser(chooser, buckets, bucket)
    capture = open_capture(source)
    try:
        session = opener.open(bundle, precision, buckets=able, threads=options.threads or manifest.target.threads)
    except BaseException:
        capture.close()
        raise
    idle_w = measure_idle(sensor, options.idle_seconds) if options.idle_seconds else None
    try:
        return run_loop(
            bundle,
            session,
            capture,
            Preprocess.of(manifest),
            policy,
            sensor,
            frames=options.frames,
            seconds=options.seconds,
            out=options.out,
            record=options.record,
            idle_w=idle_w,
        )
    finally:
        with ending():
            session.close()


@verb(
    "run",
    RunOptions,
    ["edgeprune run --camera 0", "edgeprune run --camera clip.mp4 --out out/overlay.mp4 --record out/frames.csv"],
)
def run(options: RunOptions) -> None:
    """Segment a camera stream and measure it."""
    for path, check in ((options.out, check_video_name), (options.record, check_record_name)):
        if path:
            check(path)
    try:
        with hard_stop(0):
            opened = open_default(options.bundle)
            own([options.out, options.record], [opened.folder, *camera_files(options.camera)])
            outcome = run_camera(opened, options)
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
        show_json(outcome.summary)
    else:
        show_summary(outcome.summary)
    if outcome.failure:
        raise outcome.failure


def show_summary(summary: Mapping[str, Any]) -> None:
    """The summary as a person reads it."""
    latency, energy = summary["latency_ms"], summary["energy"]
    damaged = summary["camera"]["damaged"]
    left_out = f", {damaged} damaged ones left out" if damaged else ""
    click.echo(
        f"frames   {summary['frames']} ({summary['dropped']} dropped{left_out}), {_number(summary['fps'])} per second"
    )
    click.echo(
        f"latency  p50 {_number(latency['p50'])}, p95 {_number(latency['p95'])}, p99 {_number(latency['p99'])} ms "
        "(frame in hand to labels in hand)"
    )
    shown = [{"stage": stage, **times} for stage, times in summary["stages_ms"].items() if times["p50"] is not None]
    show_table(shown, {"stage": ("stage, ms", ""), "p50": ("p50", ".2f"), "p95": ("p95", ".2f"), "p99": ("p99", ".2f")})
    buckets = ", ".join(f"{name} x{count}" for name, count in summary["buckets"].items())
    click.echo(f"tokens   {_number(summary['tokens_mean'])} a frame over all blocks; buckets {buckets}")
    figure = energy["mj_per_frame"]
    shown_energy = energy["status"] if figure is None else f"{figure:.1f} mJ a frame ({energy['status']})"
    click.echo(f"energy   {shown_energy}")
    for key in ("record", "out"):
        if summary.get(key):
            click.echo(f"wrote    {summary[key]}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
