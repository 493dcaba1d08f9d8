"""Whether engines that remember stay together: a clip through each bucket of a bundle's memory, every frame in the same one, in
an engine and in ONNX Runtime, which `build` holds to PyTorch; each with a state of its own.

    python -m edgeprune.lab.memory_parity out/bundles/memory ../shared/data/streams/car-detection.mp4 --engine openvino

`equal` is the share of answers that are equal, of all frames after the first; `least` that of the worst frame, `last` the mean
of the last tenth: a state that drifts apart is worse there. Exit code 1 where `equal` of a bucket is under the target's bound.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean

import click

from edgeprune.base.exit_code import run_click
from edgeprune.base.owning import own
from edgeprune.base.table import render_table, write_csv
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.bundle.memory import STILL
from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.remembered.clips import LEAST_FRAMES, refuse_few
from edgeprune.runtime.cameras import camera_files, open_source
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.tasks import find_task

TYPED = "python -m edgeprune.lab.memory_parity"
REFERENCE = "onnxruntime"
COLUMNS = {
    "engine": ("engine", ""),
    "precision": ("precision", ""),
    "bucket": ("bucket", ""),
    "frames": ("frames", "d"),
    "equal": ("equal", ".2%"),
    "least": ("least", ".2%"),
    "last": ("last", ".2%"),
    "bound": ("bound", ".1%"),
}


@dataclass(frozen=True)
class Row:
    """A bucket of a precision in an engine; see the top of the file."""

    engine: str
    precision: str
    bucket: str
    frames: int
    equal: float
    least: float
    last: float
    bound: float


def compare(bundle: Bundle, frames: Sequence[UInt8], engine: str, threads: int) -> Iterator[Row]:
    """A row for each precision and bucket.

    Args:
        bundle: with the graphs of its memory (`with_memory`).
        frames: (H, W, 3) at the input's size, that follow each other.
    """
    manifest = bundle.manifest
    agreement = find_task(manifest.task).agreement
    for precision in manifest.graphs:
        for bucket in (each.name for each in manifest.buckets if each.name != STILL):
            shares = []
            with ExitStack() as held:
                ours, theirs = (
                    held.enter_context(closing(ENGINES[name].open(bundle, precision, [bucket], threads)))
                    for name in (REFERENCE, engine)
                )
                for frame_HW3 in frames:
                    for session in (ours, theirs):
                        session.start(frame_HW3)
                    shares.append(agreement(ours.finish(bucket), theirs.finish(bucket)).share)
            last = shares[-max(1, len(shares) // 10) :]
            bound = manifest.target.parity.least(precision)
            yield Row(engine, precision, bucket, len(shares), fmean(shares[1:]), min(shares[1:]), fmean(last), bound)


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("clip")
@click.option("--engine", type=click.Choice([name for name in ENGINES if name != REFERENCE]), required=True)
@click.option("--frames", default=100, show_default=True, type=click.IntRange(LEAST_FRAMES, 10**5), help="In a row.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows as CSV.")
def main(bundle: Path, clip: str, engine: str, frames: int, out: Path | None) -> int:
    if out:
        own([out], [bundle, *camera_files(clip)])
    opened = open_bundle(bundle).with_memory()
    fit = Preprocess.of(opened.manifest)
    with closing(open_source(clip)) as source:
        taken = list(islice(source, frames))
    refuse_few(clip, taken)
    given = [fit.fit(frame.image_HW3) for frame in taken]
    rows = list(compare(opened, given, engine, opened.manifest.target.threads))
    click.echo(render_table(rows, COLUMNS))
    if out:
        write_csv(out, rows)
    return int(any(row.equal < row.bound for row in rows))


if __name__ == "__main__":
    sys.exit(run_click(main, "memory_parity", TYPED))
