"""Which way of carrying tokens from frame to frame keeps the labels of a dense network, at equal tokens, on frames that follow
each other.

    python -m edgeprune.lab.through_time zoo:street-tiny/reference ../shared/data/streams/car-detection.mp4

    python -m edgeprune.lab.through_time zoo:street-tiny/reference 'synthetic://street?seed=900000003&speed=0'

Every way computes the same share of the tokens in each frame after the first, which computes all; the head works on the whole
grid of every frame. `equal` is the share of labels that are those of the same network on the frame alone; `least` of the worst
frame; `where it changed` of the pixels whose label in the dense network is another than in the frame before; bars beside a
picture of another shape than the input count nowhere. `labels repeated` computes one whole frame in so many as that share
allows, and repeats its labels. Where the clip has labels of the checkpoint's classes, as the synthetic street has of its own,
there is the mIoU of all frames, and of the pixels whose class stays the same over eight frames the share that is right in all
of them (the dense network's in a row of its own).

Nothing is trained for it. Shapes: N tokens, D width, h w pixels of a label map.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.owning import own
from edgeprune.base.table import render_table, write_csv
from edgeprune.data.datasets import load_data_set
from edgeprune.data.nearest import resize_nearest
from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.through_time.carriers import CARRIERS
from edgeprune.lab.through_time.scores import (
    COLUMNS,
    DENSE,
    IGNORED,
    REPEATED,
    Judged,
    Labels,
    WayRow,
    picture_of,
    score,
)
from edgeprune.model.segmenter import Segmenter, as_image
from edgeprune.model.weight_files import find_weights
from edgeprune.quantize.loading import load
from edgeprune.runtime.cameras import Frame, camera_files, open_source

TYPED = "python -m edgeprune.lab.through_time"
STREET = "street"  # whose classes the labels of frames have
TOLERANCE = 0.02  # of a share that is typed in a few digits, such as 0.33


@dataclass
class Frames(Judged):
    """With what every way sees of each frame.

    Attributes:
        tokens: embedded, (N, D) each.
        skips: of the stem.
    """

    tokens: list[Tensor] = field(default_factory=list)
    skips: list[list[Tensor]] = field(default_factory=list)


def see(model: Segmenter, given: Sequence[Frame]) -> Frames:
    """Embeds frames, and labels each by itself."""
    fit, frames = Preprocess.of(model.spec), Frames()
    for frame in given:
        x_BND, skips, _ = model.embed(as_image(torch.from_numpy(fit.fit(frame.image_HW3))))
        frames.tokens.append(x_BND[0])
        frames.skips.append(skips)
        frames.dense.append(label(model, every_block(model, x_BND[0]), skips))
        frames.pictures.append(picture_of(fit, frame.image_HW3, fit.height // len(frames.dense[-1])))
        if frame.label_HW is not None:
            label_HW = fit.fit_label(frame.label_HW, IGNORED)
            frames.true.append(resize_nearest(label_HW, *frames.dense[-1].shape).astype(np.uint8))
    return frames


def every_block(model: Segmenter, x_ND: Tensor) -> Tensor:
    for block in model.blocks:
        x_ND = block(x_ND)
    return x_ND


def label(model: Segmenter, features_ND: Tensor, skips: list[Tensor]) -> Labels:
    """(h, w) of what the last block gives all tokens."""
    raw = model.finish(model.norm(features_ND)[None], model.grid, skips)
    return np.asarray(model.label_map(raw).numpy())


def compare(model: Segmenter, frames: Frames, shares: Sequence[float], note: Callable[[str], None]) -> list[WayRow]:
    """A row of each way at each share, after one of the dense network where the clip has labels."""
    rows = [score(1.0, DENSE, frames, frames.dense)] if frames.true else []
    for share in shares:
        count = max(1, round(share * len(frames.tokens[0])))
        for way, kind in CARRIERS.items():
            torch.manual_seed(0)
            carrier = kind(model.blocks, count, model.grid)
            answers = [
                label(model, carrier.features(x_ND), skips)
                for x_ND, skips in zip(frames.tokens, frames.skips, strict=True)
            ]
            rows.append(score(share, way, frames, answers))
            note(f"{share:.0%}: {way}")
        every = frames_of(share)
        rows.append(score(share, REPEATED, frames, [frames.dense[at - at % every] for at in range(len(frames.dense))]))
    return rows


def frames_of(share: float) -> int:
    """Of how many frames one is computed whole at a share of the tokens.

    Raises:
        InputError: that is no whole number, and the controls would have other tokens than the ways beside them.
    """
    every = round(1 / share)
    if abs(share * every - 1) > TOLERANCE:
        near = ", ".join(f"{1 / count:.4g}" for count in (every + 1, every) if count)
        raise InputError(
            f"--share {share:g}: the controls compute one whole frame in 1, 2, 3, ..., which is another share; name one of "
            f"1/n, such as {near}"
        )
    return every


def labels_of(given: Sequence[Frame], names: Sequence[str]) -> list[Frame]:
    """The frames, with their labels where the network's classes, `names`, are the street's."""
    if list(names) == list(load_data_set(STREET).names):
        return list(given)
    return [replace(frame, label_HW=None) for frame in given]


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint")
@click.argument("clip")
@click.option(
    "--share",
    "shares",
    multiple=True,
    default=(0.125, 0.25, 0.5),
    type=click.FloatRange(0, 1, min_open=True),
    help="Of the tokens, that a frame computes, 1/n; may be given several times.  [default: 0.125, 0.25, 0.5]",
)
@click.option(
    "--frames", default=48, show_default=True, type=click.IntRange(2, 1000), help="So many that follow each other."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows as CSV.")
def main(checkpoint: str, clip: str, shares: tuple[float, ...], frames: int, out: Path | None) -> None:
    path = find_weights(checkpoint)
    if out:
        own([out], [path, *camera_files(clip)])
    for share in shares:
        frames_of(share)
    model, card = load(path)
    with closing(open_source(clip)) as source:
        given = labels_of(list(islice(source, frames)), card.names)
    with torch.inference_mode():
        rows = compare(model, see(model, given), shares, lambda text: click.echo(text, err=True))
    click.echo(f"{len(given)} frames of {Path(clip).name}")
    click.echo(render_table(rows, COLUMNS))
    if out:
        write_csv(out, rows)


if __name__ == "__main__":
    sys.exit(run_click(main, "through_time", TYPED))
