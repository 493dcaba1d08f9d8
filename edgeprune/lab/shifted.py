"""What it would be worth to shift what a memory keeps along with the camera: how many tokens of a frame have another embedding
than those of a frame before, at the same place, and at the best of all places that are whole patches away.

    python -m edgeprune.lab.shifted zoo:street-tiny-narrowed/qat ../shared/data/streams/bedroom.mp4

`lag` is how many frames lie between the two. A token has changed as `runtime/changed.py` counts it, embeddings without their
positions; one whose place was out of the picture has changed. The shift is the one that leaves the fewest, so it is a bound for
every way of finding it. `pays` is the share of frames of which at most a quarter of the tokens changed, so that remembering
pays (`runtime/switching.py`).

Shapes: N tokens of the grid (Gh Gw), D width.
"""

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from statistics import fmean

import click
import numpy as np
import torch

from edgeprune.base.exit_code import run_click
from edgeprune.base.owning import own
from edgeprune.base.table import render_table, write_csv
from edgeprune.data.preprocess import Preprocess
from edgeprune.export.inputs import PARITY_FRAMES, frames_for_parity
from edgeprune.lab.remembered.clips import refuse_few
from edgeprune.model.memory import embedding_scale
from edgeprune.model.segmenter import Segmenter, as_image
from edgeprune.model.weight_files import find_weights
from edgeprune.quantize.loading import load
from edgeprune.runtime.cameras import camera_files, open_source
from edgeprune.runtime.changed import count_changed
from edgeprune.runtime.engines.bound import Array
from edgeprune.runtime.switching import MOVING

TYPED = "python -m edgeprune.lab.shifted"
LAGS = (1, 4, 16)
REACH = 4  # patches, each way
OUTSIDE = 100.0  # the distance of a token whose place was out of the picture
COLUMNS = {
    "lag": ("lag", "d"),
    "frames": ("frames", "d"),
    "changed": ("changed", ".1%"),
    "pays": ("pays", ".0%"),
    "shifted": ("shifted", ".1%"),
    "shifted_pays": ("pays", ".0%"),
    "moved": ("another place is better", ".0%"),
}


@dataclass(frozen=True)
class Row:
    """Of all pairs of frames that are `lag` apart; shares of the tokens, and of the frames (see the top of the file)."""

    lag: int
    frames: int
    changed: float
    pays: float
    shifted: float
    shifted_pays: float
    moved: float


def distances(now_GGD: Array, before_GGD: Array, down: int, right: int) -> Array:
    """Of each token to what was so many patches above and left of it (Gh, Gw)."""
    height, width = now_GGD.shape[:2]
    found_GG = np.full((height, width), OUTSIDE, np.float32)
    rows, columns = (slice(max(by, 0), size + min(by, 0)) for by, size in ((down, height), (right, width)))
    from_rows, from_columns = (slice(max(-by, 0), size - max(by, 0)) for by, size in ((down, height), (right, width)))
    found_GG[rows, columns] = np.linalg.norm(now_GGD[rows, columns] - before_GGD[from_rows, from_columns], axis=-1)
    return found_GG


def compare(embedded: Sequence[Array], lag: int) -> Row:
    """A row of embeddings (Gh, Gw, D) in distances of two scenes."""
    tokens = embedded[0].shape[0] * embedded[0].shape[1]
    still, best, moved = [], [], []
    for now_GGD, before_GGD in zip(embedded[lag:], embedded, strict=False):
        counts = {
            shift: count_changed(distances(now_GGD, before_GGD, *shift).ravel())[0].changed / tokens
            for shift in product(range(-REACH, REACH + 1), repeat=2)
        }
        still.append(counts[0, 0])
        best.append(min(counts.values()))
        moved.append(best[-1] < still[-1])
    pays, shifted_pays = (fmean(share <= MOVING for share in shares) for shares in (still, best))
    return Row(lag, len(still), fmean(still), pays, fmean(best), shifted_pays, fmean(moved))


def embed(model: Segmenter, scale: float, frames: Sequence[Array]) -> list[Array]:
    """(Gh, Gw, D) of each frame (H, W, 3), without positions."""
    found = []
    for frame_HW3 in frames:
        x_BND, _, _ = model.embed(as_image(torch.from_numpy(frame_HW3)))
        found.append(((x_BND - model.pos_embed)[0] / scale).unflatten(0, model.grid).numpy())
    return found


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint")
@click.argument("clip")
@click.option(
    "--frames", default=100, show_default=True, type=click.IntRange(LAGS[-1] + 2, 10**5), help="So many in a row."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows as CSV.")
def main(checkpoint: str, clip: str, frames: int, out: Path | None) -> None:
    path = find_weights(checkpoint)
    if out:
        own([out], [path, *camera_files(clip)])
    model = load(path)[0]
    fit = Preprocess.of(model.spec)
    scenes_FHW3, _ = frames_for_parity(None, fit)
    with closing(open_source(clip)) as source:
        given = list(islice(source, frames))
    refuse_few(clip, given)
    with torch.inference_mode():
        scale = embedding_scale(model, [torch.from_numpy(each) for each in scenes_FHW3[:PARITY_FRAMES]])
        embedded = embed(model, scale, [fit.fit(frame.image_HW3) for frame in given])
    rows = [compare(embedded, lag) for lag in LAGS if lag < len(embedded)]
    click.echo(f"{len(given)} frames of {Path(clip).name}")
    click.echo(render_table(rows, COLUMNS))
    if out:
        write_csv(out, rows)


if __name__ == "__main__":
    sys.exit(run_click(main, "shifted", TYPED))
