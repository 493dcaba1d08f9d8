"""`run`: a camera through a bundle."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgeprune.base.ending import asked, ended, ending, hard_stop
from edgeprune.base.errors import EdgepruneError
from edgeprune.bundle import Bundle
from edgeprune.cli import STOPPED_RUN, STOPPED_RUN_JSON
from edgeprune.cli.defaults import PRECISIONS, open_default
from edgeprune.cli.device import open_sensor, prepare_run, require_engine
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import A_RUN, A_WHILE, FRAMES, THREADS
from edgeprune.cli.show import as_json, show_json, show_table
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.cameras import kind_of, open_source
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import measure_idle
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


def run_camera(
    bundle: Bundle,
    camera: str,
    *,
    precision: str | None = None,
    bucket: str | None = None,
    chooser: str = "in-frame",
    frames: int | None = None,
    seconds: float | None = None,
    out: Path | None = None,
    record: Path | None = None,
    realtime: bool = False,
    loop: bool = False,
    meter: str | None = None,
    idle_seconds: float = 0.0,
    threads: int | None = None,
    engine: str | None = None,
) -> Outcome:
    """Opens camera, engine and meter, and runs the loop."""
    manifest = bundle.manifest
    engine = engine or manifest.target.engine
    opener = require_engine(bundle, engine)
    # a wrong name is refused before minutes are spent on compiling; what is chosen from is known after that
    make_chooser("fixed" if bucket else chooser, manifest.buckets, bucket)
    sensor = open_sensor(bundle, meter)
    source = open_source(camera, realtime=realtime, loop=loop, within=(manifest.height, manifest.width))
    if source.note:
        logger.info(source.note)
    bundle = prepare_run(bundle, engine)
    precision = precision or bundle.default_precision()
    able, lines = ([bucket], []) if bucket else opener.able(bundle, precision)
    for line in lines:
        logger.warning(line)
    buckets = [entry for entry in bundle.manifest.buckets if bucket or entry.name in able]
    policy = make_chooser("fixed" if bucket else chooser, buckets, bucket)
    capture = open_capture(source)
    try:
        session = opener.open(bundle, precision, buckets=able, threads=threads or manifest.target.threads)
    except BaseException:
        capture.close()
        raise
    idle_w = measure_idle(sensor, idle_seconds) if idle_seconds else None
    try:
        return run_loop(
            bundle,
            session,
            capture,
            Preprocess.of(manifest),
            policy,
            sensor,
            frames=frames,
            seconds=seconds,
            out=out,
            record=record,
            idle_w=idle_w,
        )
    finally:
        with ending():
            session.close()


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: out/bundles/street-tiny-onnx-cpu.")
@click.option(
    "--camera",
    default="synthetic://street?seed=1",
    show_default=True,
    help="0, /dev/video0, a video file, a folder of images, rtsp://, csi://0 or synthetic://street?seed=1.",
)
@click.option("--frames", type=FRAMES, help="Stop after so many frames.")
@click.option("--seconds", type=A_RUN, help="Stop after so long.")
@click.option("--out", type=click.Path(path_type=Path), help="Overlay video (.mp4).")
@click.option("--record", type=click.Path(path_type=Path), help="A row per frame (.csv or .jsonl).")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Default: the fastest that was built.")
@click.option("--bucket", help="Always this bucket; default: chosen in each frame.")
@click.option("--chooser", default="in-frame", show_default=True, help="in-frame or previous-frame.")
@click.option("--realtime", is_flag=True, help="Pace a file at its own rate and drop what comes too fast.")
@click.option("--loop", is_flag=True, help="Start a file again at its end.")
@click.option("--meter", help="Energy meter: auto, rapl, ina3221, nvml or none; default: the target's.")
@click.option("--idle", "idle_seconds", default=0.0, type=A_WHILE, help="Measure idle power for so many seconds first.")
@click.option("--threads", type=THREADS, help="Default: the target's.")
@click.option("--engine", help=f"{', '.join(ENGINES)}; default: the target's.")
@as_json
def run(bundle: Path | None, camera: str, json_: bool, **options: Any) -> None:
    """Segment a camera stream and measure it."""
    for path, check in ((options["out"], check_video_name), (options["record"], check_record_name)):
        if path:
            check(path)
    try:
        with hard_stop(0):
            opened = open_default(bundle)
            own([options["out"], options["record"]], [opened.folder, *camera_files(camera)])
            outcome = run_camera(opened, camera, **options)
    except (KeyboardInterrupt, EdgepruneError) as error:
        # SIGTERM is KeyboardInterrupt too, and what a library makes of it is an error of ours; once there are frames, the
        # loop ends by itself
        if isinstance(error, CutShort) or not (isinstance(error, KeyboardInterrupt) or asked()):
            raise
        ended()
        logger.info(STOPPED_RUN[1])
        if json_:
            click.echo(STOPPED_RUN_JSON)
        return
    ended()
    if json_:
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
