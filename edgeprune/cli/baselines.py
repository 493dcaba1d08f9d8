"""`baselines`: what a user would deploy without edgeprune, as graphs that `bench` times beside a bundle's."""

from dataclasses import MISSING, dataclass
from pathlib import Path

import click

from edgeprune.base.owning import own
from edgeprune.base.reading import parse
from edgeprune.bundle import open_bundle
from edgeprune.bundle.target import load_target
from edgeprune.cli.defaults import MODEL, TARGET
from edgeprune.cli.options import CHECKPOINT, option
from edgeprune.cli.ranges import CALIBRATION_FRAMES
from edgeprune.cli.verb import verb
from edgeprune.data.selection import CalibrationFrames
from edgeprune.data.split import open_calibration
from edgeprune.model.zoo import ZOO, find_in_zoo


@dataclass(frozen=True, kw_only=True)
class BaselinesOptions:
    data: str = option("--data", default=MISSING, help="Data set for calibration: a name, a folder or a YAML file.")
    split: str = option("--split", default="train")
    frames: int = option("--frames", CALIBRATION_FRAMES, default=64)
    checkpoint: Path | None = option(
        "--checkpoint", CHECKPOINT, help="A dense FP32 one; default: zoo:street-tiny/reference."
    )
    target: str = option("--target", default=TARGET, help="Whose dialect of ONNX.")
    bundle: Path | None = option("--bundle", help="Also its INT8 buckets, trunk and tail joined into one graph each.")
    out: Path = option("--out", default=Path("out/baselines"))


@verb(
    "baselines",
    BaselinesOptions,
    [
        "edgeprune baselines --data camvid",
        "edgeprune baselines --data camvid --bundle out/bundles/street-tiny-onnx-cpu --out out/baselines",
    ],
)
def baselines(options: BaselinesOptions) -> None:
    """Make the dense INT8 graphs that you would deploy instead.

    The dense model in INT8 by other means, for `bench --baseline`.
    """
    from edgeprune.model.card import read_header

    own([options.out], [options.checkpoint, options.bundle], folders=True, among=[options.data])
    given = {"data": options.data, "split": options.split, "frames": options.frames}
    spec = parse(CalibrationFrames, given, "options")
    source = options.checkpoint or find_in_zoo(f"{ZOO}{MODEL}/reference", "checkpoint")
    read_header(source)
    open_calibration(spec)
    dialect = load_target(options.target).dialect
    opened = open_bundle(options.bundle) if options.bundle else None
    # torch takes seconds: what was given has been read
    from edgeprune.lab.baselines import export_baselines, export_joined

    paths = export_baselines(source, spec, dialect, options.out)
    if opened is not None:
        paths += export_joined(opened, "int8", options.out)
    for path in paths:
        click.echo(f"wrote {path}")
    click.echo(f"next: edgeprune bench {' '.join(f'--baseline {path}' for path in paths)}")
