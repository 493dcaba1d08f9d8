"""`calibrate`: what the frames of a data set, or of the place where a device will hang, ask of a checkpoint."""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.owning import own
from edgeprune.base.reading import parse
from edgeprune.bundle.target import load_target
from edgeprune.cli.defaults import TARGET, calib_path
from edgeprune.cli.options import CHECKPOINT, argument, json_option, option, refuse_typed
from edgeprune.cli.ranges import A_RUN, CALIBRATION_FRAMES
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.region import Mask, Region, read_mask
from edgeprune.data.selection import CalibrationFrames
from edgeprune.data.split import open_calibration
from edgeprune.model.card import Card, read_header
from edgeprune.quantize.calib import Calib
from edgeprune.runtime.cameras import Wanted, camera_files, open_source, what_to_type

if TYPE_CHECKING:  # they come with torch
    from torch import Tensor

    from edgeprune.model.segmenter import Segmenter

logger = logging.getLogger(__name__)


class Measured(NamedTuple):
    """A calibration; of a camera's frames also which share of the tokens each choice of thresholds takes, and how often the
    answer is as with every token."""

    calib: Calib
    choices: list[dict[str, Any]]


Measure = Callable[["Segmenter", Calib | None], Measured]  # of a model, and the calibration that it had before
DECISIONS = {
    "block": ("before block", "d"),
    "thresholds.fp32": ("fp32 threshold", ".5f"),
    "thresholds.int8": ("int8", ".5f"),
    "least": ("tokens over it: least", ".0%"),
    "median": ("median", ".0%"),
    "most": ("most", ".0%"),
}
BUCKETS = {
    "bucket": ("bucket", ""),
    "tokens": ("of all tokens", ".0%"),
    "frames": ("of these frames", ".0%"),
    "before": ("before", ""),
    "tokens_before": ("of all tokens", ".0%"),
}
CHOICES = {
    "thresholds": ("thresholds", ""),
    "tokens": ("of all tokens", ".1%"),
    "equal": ("as with every token", ".1%"),
}
WITHOUT_LABELS = """\
not measured, as a camera's frames have no labels: accuracy. INT8 ranges are those of training; where a target leaves the
precision open, `build` takes the fastest that agrees with PyTorch. `eval` scores a bundle on frames with labels."""


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    checkpoint: Path = argument(CHECKPOINT)
    data: str | None = option("--data", help="Data set: a name, a folder or a YAML file.")
    split: str = option("--split", default="train", needs="data")
    camera: str | None = option("--camera", help=f"In place of a data set: {what_to_type()}.")
    frames: int = option(
        "--frames", CALIBRATION_FRAMES, default=64, help="Spread evenly over the split, the folder or the recording."
    )
    seconds: float = option(
        "--seconds", A_RUN, default=600.0, needs="camera", help="Spread the frames of a live camera over so long."
    )
    keep_thresholds: bool = option(
        "--keep-thresholds",
        default=False,
        needs="camera",
        help="Place buckets by the thresholds there are; default: new ones, which the target's share of tokens is over.",
    )
    region: Path | None = option(
        "--region",
        metavar="MASK",
        help="An image of the frame, black where nothing matters: no block sees what lies there.",
    )
    out: Path | None = option(
        "--out",
        help="Default: calib-<checkpoint>.yaml beside the checkpoint, for the zoo's in out/calib; of a camera "
        "out/calib/<model>.yaml.",
    )
    json: bool = json_option()


@verb(
    "calibrate",
    CalibrateOptions,
    [
        "edgeprune calibrate out/train/street-short/sparse.safetensors --data street",
        "edgeprune calibrate mine.safetensors --camera rtsp://192.168.1.20/live --seconds 3600 --region yard.png",
    ],
)
def calibrate(options: CalibrateOptions) -> None:
    """Measure a CHECKPOINT's thresholds and buckets on frames.

    Gate thresholds, occupancy, ranges: what a build needs where the frames are not at hand. --camera takes frames without
    labels, of the place where the device will hang.
    """
    if options.data is None and options.camera is None:
        raise InputError("name frames to calibrate on: --data DATA, or --camera CAMERA, whose frames need no labels")
    if options.data is not None and options.camera is not None:
        raise InputError("--camera has no use for --data; leave one of the two out")
    checkpoint = options.checkpoint
    card = read_header(checkpoint)[0]
    path = options.out or calib_path(checkpoint, card.name, of_camera=options.camera is not None)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"--out {path}: a calibration is a YAML file; name it {path.with_suffix('.yaml')}")
    seen = [] if options.camera is None else camera_files(options.camera)
    own([path], [checkpoint, options.region, *seen], among=[options.data])
    mask = read_mask(options.region, Preprocess.of(card.model), card.model.patch) if options.region else None
    measure = on_data(options, card, mask) if options.camera is None else on_camera(options, options.camera, card, mask)
    # torch takes seconds: what was given has been read
    from edgeprune.quantize.calibrate import write_calib
    from edgeprune.quantize.loading import load

    model, _ = load(checkpoint)
    before = calib_before(checkpoint, model, needed=options.keep_thresholds)
    if options.keep_thresholds and before is None:
        raise InputError(f"{checkpoint} has no calibration whose thresholds could stay; leave --keep-thresholds out")
    measured = measure(model, before)
    write_calib(path, measured.calib)
    if before and before.region != measured.calib.region:
        before = None  # it is of other tokens
    show(options, path, model, measured, before)


def show(options: CalibrateOptions, path: Path, model: "Segmenter", measured: Measured, before: Calib | None) -> None:
    """What was measured and written to `path`, beside what was there before."""
    calib, choices = measured
    buckets = bucket_rows(model, calib, before)
    if options.json:
        show_json({"calib": str(path)} | calib.model_dump() | {"buckets": buckets, "choices": choices})
        return
    click.echo(f"wrote {path}: {len(calib.frames)} frames of {calib.data}{f' {calib.split}' if calib.split else ''}")
    if options.region:
        click.echo(about_region(Region.of(calib.region), options.region, path))
    if buckets:
        show_table(decision_rows(model, calib), DECISIONS)
        click.echo(f"buckets of a build for {TARGET}{f'; before: by {before.data}' if before else ''}")
        show_table(buckets, {key: BUCKETS[key] for key in BUCKETS if before or "before" not in key})
    elif not calib.ranges:
        click.echo(f"{calib.model} is dense and in floats: no threshold, bucket or range is to be measured of it")
    if choices:
        click.echo("on some of these frames, in PyTorch:")
        show_table(choices, CHOICES)
    if options.camera is not None:
        click.echo(WITHOUT_LABELS)
    click.echo(f"next: edgeprune build --checkpoint {options.checkpoint} --calib {path}")


def on_data(options: CalibrateOptions, card: Card, mask: Mask | None) -> Measure:
    """Calibrates on frames of a data set. Raises InputError where it has none, or too few."""
    given = {"data": options.data, "split": options.split, "frames": options.frames}
    spec = parse(CalibrationFrames, given, "options")
    open_calibration(spec)

    def measure(model: "Segmenter", _: Calib | None) -> Measured:
        from edgeprune.quantize.calibrate import calibrate

        return Measured(calibrate(model, spec, card.name, mask), [])

    return measure


def on_camera(options: CalibrateOptions, camera: str, card: Card, mask: Mask | None) -> Measure:
    """Calibrates on frames of a camera, which is open from here on. Raises InputError as `open_source`."""
    opener = partial(open_source, camera, Wanted(within=(card.model.height, card.model.width), spread=options.frames))
    source = opener()
    if source.note:
        logger.info(source.note)
    if source.live:
        logger.info(f"{source.uri}: {options.frames} frames over {options.seconds:g} s")
    else:
        refuse_typed(f"frames of {source.uri} are spread over the whole of it", "seconds")

    def measure(model: "Segmenter", before: Calib | None) -> Measured:
        from edgeprune.quantize.calibrate import Camera, calibrate_on_camera

        stay = before.thresholds if before and options.keep_thresholds else {}
        place = Camera(source, options.frames, options.seconds, opener)
        calib, images_F3HW = calibrate_on_camera(model, place, card.name, stay, mask)
        return Measured(calib, choice_rows(model, images_F3HW, calib, before))

    return measure


def about_region(region: Region | None, mask: Path, path: Path) -> str:
    """What became of a mask, in a line."""
    if region is None:
        return f"{mask} reaches every patch of the frame: as without --region"
    return f"region: {region.share:.1%} of the frame's patches, drawn as text in {path}, where they may be changed"


def calib_before(checkpoint: Path, model: "Segmenter", needed: bool) -> Calib | None:
    """The calibration that a build of the checkpoint takes unless told; None where there is none.

    Args:
        needed: one that is damaged, or another model's, is refused; else it counts as none, for nobody named it, and it may
            be what is to be replaced.

    Raises:
        InputError: see `needed`.
    """
    from edgeprune.export.inputs import calibration_of
    from edgeprune.export.spec import check_calib

    with suppress(*([] if needed else [InputError])):
        if (calib := calibration_of(checkpoint)) and calib.placing:
            check_calib(calib, model, list(calib.thresholds))
            return calib
    return None


def choice_rows(model: "Segmenter", images_F3HW: "Tensor", calib: Calib, before: Calib | None) -> list[dict[str, Any]]:
    """A row for each choice of thresholds: the calibration's own, those that were there before with buckets placed anew, and
    as it was before. Empty without gates."""
    from edgeprune.export.against_dense import hold_against_dense
    from edgeprune.quantize.calibrate import measure

    if calib.placing is None:
        return []
    choices = {"new": calib}
    if before and before.region == calib.region:
        as_before = {"as before, without --calib": before}
        if calib.thresholds == before.thresholds:
            choices = {"kept": calib} | as_before
        else:
            kept = calib.model_copy(update={"thresholds": before.thresholds, "occupancy": {}})
            choices |= {"kept, by --keep-thresholds": measure(model, images_F3HW, kept)} | as_before
    held = hold_against_dense(model, images_F3HW, [*choices.values()], load_target(TARGET).buckets)
    return [
        {"thresholds": name, "tokens": found.tokens, "equal": found.equal}
        for name, found in zip(choices, held, strict=True)
    ]


def decision_rows(model: "Segmenter", calib: Calib) -> list[dict[str, Any]]:
    """A row for each decision: its thresholds, and which share of its tokens a frame has over them."""
    return [
        {
            "block": block,
            "thresholds": {precision: values_G[decision] for precision, values_G in calib.thresholds.items()},
            "least": float(shares_F.min()),
            "median": float(np.median(shares_F)),
            "most": float(shares_F.max()),
        }
        for decision, (block, shares_F) in enumerate(
            zip(model.policy.gated, np.transpose(calib.placing or []), strict=True)
        )
    ]


def bucket_rows(model: "Segmenter", calib: Calib, before: Calib | None) -> list[dict[str, Any]]:
    """A row for each bucket that a build for the default target makes, from small to large: its tokens as a share of the dense
    model's, and the share of the frames that fall in it. Beside it one that `before` makes."""
    from edgeprune.export.family import buckets_of_frames, place_buckets

    if calib.placing is None:
        return []
    schedule, family = model.policy.schedule, load_target(TARGET).buckets
    placed = place_buckets(schedule, family, calib.placing)
    others = place_buckets(schedule, family, before.placing) if before else []
    chosen = Counter(buckets_of_frames(schedule, placed, calib.placing))
    rows: list[dict[str, Any]] = []
    for number, (bucket, other) in enumerate(zip_longest(placed, others)):
        row: dict[str, Any] = {}
        if bucket:
            frames = chosen[number] / len(calib.placing)
            row |= {"bucket": bucket.name, "tokens": model.share_of_dense(bucket), "frames": frames}
        if other:
            row |= {"before": other.name, "tokens_before": model.share_of_dense(other)}
        rows.append(row)
    return rows
