"""How far each bucket, and `auto`, agrees with the whole network on a stream without labels.

    python -m edgeprune.lab.agreement out/bundles/narrowed ../shared/data/streams/car-detection.mp4

Beside it with the dense FP32 reference, which is another network where the bundle was made with one. An answer that is unlike
the whole network's may still be right: this tells what pruning changes, not what is true. Pixels that the frame does not cover,
the bars of its letterbox, are left out.

Shapes: h w pixels of a label map.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.owning import own
from edgeprune.base.table import render_table, write_json
from edgeprune.bundle import DENSE, Bundle, Manifest, open_bundle
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.graphs import GraphSelection, OpenGraphs, open_graphs
from edgeprune.runtime.cameras import camera_files, open_source
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.preparing import require_engine
from edgeprune.runtime.tasks import Agreement, find_task

TYPED = "python -m edgeprune.lab.agreement"
FP32 = "fp32"
COLUMNS = {
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "tokens": ("of dense", ".1%"),
    "whole": ("equal to all tokens", ".2%"),
    "whole_least": ("least", ".2%"),
    "dense": ("to dense", ".2%"),
    "buckets": ("frames asked for", ""),
}


@dataclass
class AgreementRow:
    """One bucket, or `auto`, over the frames.

    Attributes:
        tokens: share of the dense model's, the mean over the frames.
        whole: share of equal answers to those of the largest bucket in FP32.
        whole_least: of the frame that is least alike.
        dense: to those of the dense reference.
        buckets: of `auto`, how many frames asked for each.
    """

    bucket: str
    precision: str
    tokens: float = 0.0
    whole: float = 0.0
    whole_least: float = 1.0
    dense: float = 0.0
    buckets: str | None = None
    chosen: Counter[str] = field(default_factory=Counter)

    def add(self, whole: Agreement, dense: Agreement, tokens: float, chosen: str | None, frames: int) -> None:
        """One of so many frames."""
        self.tokens += tokens / frames
        self.whole += whole.share / frames
        self.whole_least = min(self.whole_least, whole.share)
        self.dense += dense.share / frames
        if chosen:
            self.chosen[chosen] += 1
            self.buckets = ", ".join(f"{name} {count}" for name, count in self.chosen.most_common())


def every(uri: str, step: int, most: int) -> Iterator[UInt8]:
    """At most so many frames of a stream, one of `step`."""
    with closing(open_source(uri)) as source:
        for frame in islice(source, 0, step * most, step):
            yield frame.image_HW3


def covered(manifest: Manifest, height: int, width: int) -> npt.NDArray[np.bool_]:
    """True for the pixels of a label map (h, w) that a frame of height x width covers, of a region those inside."""
    top, left, fitted_height, fitted_width = Preprocess.of(manifest).placement(height, width)
    stride = manifest.height // manifest.label_height
    covered_hw = np.zeros((manifest.label_height, manifest.label_width), np.bool_)
    rows, columns = slice(top, top + fitted_height), slice(left, left + fitted_width)
    covered_hw[whole_pixels(rows, stride), whole_pixels(columns, stride)] = True
    return covered_hw if manifest.inside_hw is None else covered_hw & manifest.inside_hw


def whole_pixels(of_input: slice, stride: int) -> slice:
    """The pixels of a label map that lie inside a stretch of the input as a whole."""
    return slice(-(-of_input.start // stride), of_input.stop // stride)


def compare(bundle: Bundle, graphs: OpenGraphs, frames: list[UInt8]) -> list[AgreementRow]:
    """A row for each bucket of each precision, and for `auto`; `graphs`: FP32 among their precisions."""
    manifest = bundle.manifest
    alike, largest, fit = find_task(manifest.task).agreement, manifest.buckets[-1].name, Preprocess.of(manifest)
    rows: dict[tuple[str, str], AgreementRow] = {}
    for frame_HW3 in frames:
        answers = {(answer.bucket, answer.precision): answer for answer in graphs.answers(fit.fit(frame_HW3))}
        dense, whole = answers.pop((DENSE, FP32)), answers[largest, FP32]
        counted_hw = covered(manifest, *frame_HW3.shape[:2])
        for key, answer in answers.items():
            rows.setdefault(key, AgreementRow(*key)).add(
                alike(whole.outputs, answer.outputs, counted_hw),
                alike(dense.outputs, answer.outputs, counted_hw),
                answer.tokens / graphs.all_tokens,
                answer.chosen,
                len(frames),
            )
    return list(rows.values())


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("clip")
@click.option("--every", "step", default=10, show_default=True, type=click.IntRange(1), help="One frame of so many.")
@click.option("--frames", default=60, show_default=True, type=click.IntRange(1, 1000), help="At most so many.")
@click.option("--engine", help="Default: the target's.")
@click.option("--out", type=click.Path(path_type=Path), help="Write it as JSON.")
def main(bundle: Path, clip: str, step: int, frames: int, engine: str | None, out: Path | None) -> None:
    if out:
        own([out], [bundle, *camera_files(clip)])
    opened = open_bundle(bundle)
    manifest = opened.manifest
    if FP32 not in manifest.precisions:
        raise InputError(
            f"{bundle} has {' and '.join(manifest.precisions)}, no {FP32} to compare with; build it with --precision {FP32}"
        )
    images = list(every(clip, step, frames))
    precisions = list(dict.fromkeys((opened.default_precision(), FP32)))
    opener = require_engine(opened, engine or manifest.target.engine)
    with open_graphs(opened, opener, GraphSelection(precisions=precisions)) as graphs:
        rows = compare(opened, graphs, images)
    click.echo(f"{len(images)} frames, one of {step}")
    click.echo(render_table(rows, COLUMNS))
    if out:
        columns = [vars(row) | {"chosen": dict(row.chosen)} for row in rows]
        write_json(out, {"bundle": str(bundle), "clip": clip, "every": step, "frames": len(images), "rows": columns})


if __name__ == "__main__":
    sys.exit(run_click(main, "agreement", TYPED))
