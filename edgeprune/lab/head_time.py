"""What a model's head takes of a frame: the graph of stem and head less one of the stem alone, beside a frame of `auto`.

    python -m edgeprune.lab.head_time out/bundles/things zoo:street-instances/qat --engine openvino

Each graph runs in a process of its own, in interleaved rounds, as `bench` times them; a difference and a share are of one
round, medians over the rounds are told with their spread. Heads stay in float in INT8, so the graph of stem and head, which a
bundle has in FP32, has theirs.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import click
import onnx
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.files import sha256
from edgeprune.base.owning import own
from edgeprune.base.table import render_table, write_csv
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.evaluate.bench import FRAMES, bench_frames, write_job
from edgeprune.evaluate.graphs import AUTO
from edgeprune.evaluate.timing import Entry, time_entries
from edgeprune.export.graphs import blank_frame, channels_last, export_graph, trunk_outputs
from edgeprune.model.segmenter import Segmenter, as_image
from edgeprune.model.weight_files import find_weights
from edgeprune.quantize.loading import load
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import open_meter

TYPED = "python -m edgeprune.lab.head_time"
COLUMNS = {
    "engine": ("engine", ""),
    "precision": ("precision", ""),
    "stem_ms": ("stem, ms", ".2f"),
    "head_ms": ("head, ms", ".2f"),
    "auto_ms": ("auto, ms", ".2f"),
    "share": ("head of auto", ".1%"),
    "least": ("least", ".1%"),
    "most": ("most", ".1%"),
}


@dataclass(frozen=True)
class Row:
    """One engine: medians over the rounds, of each the median frame; `share` of head in `auto`, and its least and most."""

    engine: str
    precision: str
    stem_ms: float
    head_ms: float
    auto_ms: float
    share: float
    least: float
    most: float


class StemGraph(nn.Module):
    """frame -> tokens and the stem's features for the head, as a trunk hands them over."""

    def __init__(self, model: Segmenter):
        super().__init__()
        self.model = model

    def forward(self, frame_HW3: Tensor) -> tuple[Tensor, ...]:
        x_BND, skips, _ = self.model.embed(as_image(frame_HW3))
        return x_BND[0], *channels_last(skips)


def write_stem(model: Segmenter, path: Path) -> None:
    """The graph of the stem alone."""
    *names, _ = trunk_outputs(model)
    onnx.save(export_graph(StemGraph(model), (blank_frame(model),), ["frame"], names), path)


def measure(bundle: Bundle, model: Segmenter, engine: str, precision: str, rounds: int, frames: int) -> Row:
    """Times the three graphs in one engine."""
    manifest = bundle.manifest
    with tempfile.TemporaryDirectory(prefix="edgeprune-head-") as folder:
        stem = Path(folder) / "stem.onnx"
        write_stem(model, stem)
        _, frames_FHW3 = bench_frames(bundle, None, frames)
        common = replace(write_job(bundle, frames_FHW3, Path(folder), manifest.target.threads), engine=engine)
        timed = [
            Entry("stem", None, replace(common, kind="graph", graph=str(stem))),
            Entry("stem+head", None, replace(common, kind="graph", graph=str(bundle.path(manifest.stem_head)))),
            Entry("trunk+tail", AUTO, replace(common, kind="auto", precision=precision)),
        ]
        time_entries(timed, rounds, open_meter("none"))
    return row_of(engine, precision, *([median(each) for each in entry.rounds_ms] for entry in timed))


def row_of(
    engine: str, precision: str, stems_ms: Sequence[float], both_ms: Sequence[float], autos_ms: Sequence[float]
) -> Row:
    """Of the median frame of each round."""
    heads_ms = [both - stem for both, stem in zip(both_ms, stems_ms, strict=True)]
    shares = [head / auto for head, auto in zip(heads_ms, autos_ms, strict=True)]
    middle = (median(stems_ms), median(heads_ms), median(autos_ms), median(shares))
    return Row(engine, precision, *middle, min(shares), max(shares))


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)), help="By default the bundle's.")
@click.option("--precision", default="int8", show_default=True, help="Of `auto`.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 1000))
@click.option("--frames", default=FRAMES, show_default=True, type=click.IntRange(1, 1000), help="Of a round.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows as CSV.")
def main(
    bundle: Path,
    checkpoint: Path,
    engines: tuple[str, ...],
    precision: str,
    rounds: int,
    frames: int,
    out: Path | None,
) -> None:
    checkpoint = find_weights(str(checkpoint))
    if out:
        own([out], [bundle, checkpoint])
    opened, (model, _) = open_bundle(bundle), load(checkpoint)
    if opened.manifest.provenance.get("checkpoint_sha256") != sha256(checkpoint):
        raise InputError(f"{bundle} was not built from {checkpoint}; name the checkpoint that it was built from")
    if not opened.graphs(precision).tails:
        raise InputError(
            f"{bundle} has no graphs in which tokens are chosen; name a bundle of a policy that chooses some"
        )
    asked = engines or (opened.manifest.target.engine,)
    rows = [measure(opened, model, engine, precision, rounds, frames) for engine in asked]
    click.echo(render_table(rows, COLUMNS))
    if out:
        write_csv(out, rows)


if __name__ == "__main__":
    sys.exit(run_click(main, "head_time", TYPED))
