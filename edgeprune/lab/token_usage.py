"""Which tokens a policy processes, gate by gate: how many, how many come back, and how much of them lies on things. It is what
figures 4 to 6 of SViT show (Liu et al., "Revisiting Token Pruning for Object Detection and Instance Segmentation", WACV 2024),
of a model of yours.

    python -m edgeprune.lab.token_usage out/train/mine/qat.safetensors --data out/street-instances --out out/usage

Things are those of the labels; of label maps what hangs together of a class that `things:` of the data set names. Small ones
have up to 32x32 pixels of the frame, medium ones up to 96x96. The folder gets `usage.csv` and `usage.png` (each block that a
decision precedes), `frames.csv`, and in `frames` a picture of each frame with its things outlined over the number of blocks
that each token went through. Gates are cut at calibrated thresholds, as a run does; without a calibration they keep the best
tokens at the target ratios.

Shapes: N tokens of the grid, L blocks.
"""

import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from edgeprune.base.ending import end_on_signals
from edgeprune.base.errors import InputError, choose
from edgeprune.base.exit_code import run_click
from edgeprune.base.files import write_folder_atomic
from edgeprune.base.outputs import locked, refuse_full_folder
from edgeprune.base.table import render_table, write_csv
from edgeprune.data import Samples, open_split, spread
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.region import Region
from edgeprune.evaluate.tasks import METRICS
from edgeprune.export.inputs import find_inputs
from edgeprune.lab.frame_parts import PARTS, SIZES, Int, pixels_of_parts, size_of, things_of
from edgeprune.lab.usage_pictures import TOKENS, draw_frame, plot_usage
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.one_frame import predict, selection_of
from edgeprune.quantize.calibrate import model_thresholds
from edgeprune.quantize.loading import load, read_card

logger = logging.getLogger(__name__)

TYPED = "python -m edgeprune.lab.token_usage"
Bool = npt.NDArray[np.bool_]
ALL = "all"  # blocks together
COLUMNS = {
    "block": ("before block", ""),
    "processed": ("processed", ".1%"),
    "reactivated": ("reactivated", ".1%"),
    "returned": ("returned", ".1%"),
    "used_later": ("used later", ".1%"),
    "used_next": ("of them next", ".1%"),
    **{part: (part, ".1%") for part in PARTS},
}
NOTES = (
    "of the tokens: processed; reactivated: that have missed a block before; returned: that the gate before had let go",
    "of those let go: used later: by a later block; of these those that the next gate takes back",
    "inside of things, outside, small, medium, large: the share of their pixels that lies on processed tokens",
)


@dataclass(frozen=True)
class UsageRow:
    """Of the tokens before one block, or of all blocks together; shares 0 to 1, None where there is nothing to share.

    Attributes:
        block: its number, from 1, or ALL.
        processed: of the tokens.
        reactivated: of the tokens, processed after they have missed at least one block.
        returned: of the tokens, processed after the decision before had let them go.
        used_later: of the tokens that are let go here, those that a later block processes.
        used_next: of these, those that the next decision takes back.
        inside, outside: of the pixels on things and of those on none, the share on tokens that are processed.
        small, medium, large: of the pixels on things of that size.
    """

    block: str
    processed: float
    reactivated: float | None
    returned: float | None
    used_later: float | None
    used_next: float | None
    inside: float | None
    outside: float | None
    small: float | None
    medium: float | None
    large: float | None


@dataclass(frozen=True)
class FrameRow:
    """Of one frame over all blocks; as UsageRow. `things`: how many."""

    frame: str
    processed: float
    inside: float | None
    outside: float | None
    things: int


class UsageSums:
    """Sums over frames.

    Args:
        before: the block that each decision precedes, from 1.
        depth: blocks of the network.
    """

    def __init__(self, before: Sequence[int], depth: int) -> None:
        self.blocks, self.depth = sorted(set(before)), depth
        self.tokens = 0
        self.processed_L = np.zeros(depth, np.int64)
        self.pixels: Counter[str] = Counter()
        self.on_processed_L = {part: np.zeros(depth, np.int64) for part in PARTS}
        self.counts = {block: Counter[str]() for block in self.blocks}

    def add(self, here_LN: Bool, there_N: Bool, pixels: Mapping[str, Int]) -> None:
        """Adds a frame.

        Args:
            here_LN: whether each block processed each token.
            there_N: the tokens that it may process: all, or those of a region.
            pixels: of each token, by the names of PARTS.
        """
        self.tokens += int(there_N.sum())
        self.processed_L += here_LN.sum(1)
        for part, pixels_N in pixels.items():
            inside_N = pixels_N * there_N
            self.pixels[part] += int(inside_N.sum())
            self.on_processed_L[part] += here_LN @ inside_N
        for block, following in zip(self.blocks, [*self.blocks[1:], None], strict=True):
            here_N = here_LN[block - 1]
            let_go_N = there_N & ~here_N
            later_N = let_go_N & here_LN[block:].any(0)
            self.counts[block] += Counter(
                reactivated=int((here_N & ~here_LN[: block - 1].all(0)).sum()),
                returned=int((here_N & ~here_LN[max(0, block - 2)]).sum()),
                let_go=int(let_go_N.sum()),
                used_later=int(later_N.sum()),
                used_next=0 if following is None else int((later_N & here_LN[following - 1]).sum()),
            )

    def share_on_processed(self, part: str, block: int | None = None) -> float | None:
        """Of the pixels of a part, the share on tokens that a block processes; None: that blocks do on the mean."""
        on_L = self.on_processed_L[part]
        return ratio(on_L.sum() / self.depth if block is None else on_L[block - 1], self.pixels[part])

    def rows(self) -> list[UsageRow]:
        """One of each block that a decision precedes, and of all."""
        found = []
        for block in self.blocks:
            counts = self.counts[block]
            row = UsageRow(
                str(block),
                float(self.processed_L[block - 1] / self.tokens),
                ratio(counts["reactivated"], self.tokens),
                ratio(counts["returned"], self.tokens),
                ratio(counts["used_later"], counts["let_go"]),
                ratio(counts["used_next"], counts["used_later"]),
                **{part: self.share_on_processed(part, block) for part in PARTS},
            )
            found.append(row)
        processed = float(self.processed_L.sum() / (self.depth * self.tokens))
        parts = {part: self.share_on_processed(part) for part in PARTS}
        return [*found, UsageRow(ALL, processed, None, None, None, None, **parts)]


def ratio(part: float, whole: float) -> float | None:
    """None of nothing."""
    return float(part / whole) if whole else None


@dataclass(frozen=True)
class Usage:
    """What was found. `things`: how many of each size, by the names of SIZES."""

    rows: list[UsageRow]
    frames: list[FrameRow]
    things: Mapping[str, int]


def study(
    model: Segmenter,
    data_set: DataSet,
    samples: Samples,
    frames: int | None,
    thresholds: Sequence[float] | None,
    pictures: Path,
) -> Usage:
    """Looks at so many frames, evenly spread (None: at all), and draws each.

    Args:
        thresholds: what gates are cut at; None: the best tokens at the target ratios stay.
        pictures: folder.

    Raises:
        InputError: see `things_of`.
    """
    fit, depth = Preprocess.of(model.spec), model.spec.depth
    before = [gate + 1 for gate in model.policy.gated]
    sums, sizes = UsageSums(before, depth), Counter[str]()
    rows: list[FrameRow] = []
    picked = spread(len(samples), frames)
    for done, index in enumerate(picked, 1):
        sample = samples[index]
        things, image_HW3 = things_of(sample, data_set), fit.fit(sample.image_HW3)
        selection = selection_of(model, predict(model, image_HW3, thresholds).masked)
        here_LN = selection.processed(depth)
        there_N = np.ones_like(here_LN[0]) if selection.inside_N is None else selection.inside_N
        pixels = pixels_of_parts(sample, things, data_set.ignore_index, fit, selection.grid)
        sums.add(here_LN, there_N, pixels)
        alone = UsageSums(before, depth)
        alone.add(here_LN, there_N, pixels)
        told = [size_of(area) for area, crowd in zip(things.areas(), things.crowd_I, strict=True) if area and not crowd]
        sizes.update(told)
        over_all = alone.rows()[-1]
        rows.append(FrameRow(sample.name, over_all.processed, over_all.inside, over_all.outside, len(told)))
        name = f"{done:04d}-{Path(sample.name).name}.png"
        draw_frame(pictures / name, image_HW3, fit.fit_things(things), selection, depth)
        if done % max(1, len(picked) // 10) == 0:
            logger.info(f"{done} of {len(picked)} frames")
    return Usage(sums.rows(), rows, {name: sizes[name] for name in SIZES if sizes[name]})


def write(usage: Usage, folder: Path) -> None:
    """Writes the tables and the plot; says so where matplotlib is missing."""
    write_csv(folder / "usage.csv", usage.rows)
    write_csv(folder / "frames.csv", usage.frames)
    *gates, _ = usage.rows
    shares = {name: [getattr(row, name) for row in gates] for name in (*TOKENS, *PARTS)}
    try:
        plot_usage([int(row.block) for row in gates], shares, folder / "usage.png")
    except InputError as error:
        logger.warning(f"no usage.png: {error}")


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Data set: a name, a folder or a YAML file.")
@click.option("--split", default="val", show_default=True)
@click.option("--frames", default=50, show_default=True, type=click.IntRange(1), help="So many, evenly spread.")
@click.option("--calib", type=click.Path(path_type=Path), help="Default: beside the checkpoint, else the shipped one.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new or empty folder.")
def main(checkpoint: Path, data: str, split: str, frames: int, calib: Path | None, out: Path) -> None:
    card, data_set = read_card(checkpoint), load_data_set(data)
    samples = open_split(data_set, split, things=choose(METRICS, card.model.task, "task").things)
    refuse_full_folder(out)
    model, _ = load(checkpoint)
    if not model.policy.gated:
        raise InputError(f"{checkpoint} is {card.policy.name}: every block processes every token; name one that prunes")
    measured = find_inputs(checkpoint, calib, None).calib
    thresholds = model_thresholds(model, measured) if measured else None
    model.restrict(Region.of(measured.region) if measured else None)
    with locked(out, "a study"), write_folder_atomic(out, "a study") as partial:
        usage = study(model, data_set, samples, frames, thresholds, partial / "frames")
        write(usage, partial)
    click.echo(render_table(usage.rows, COLUMNS))
    for note in NOTES:
        click.echo(note)
    kept = "cut at calibrated thresholds" if measured else "keep the best tokens at the target ratios: no calibration"
    counted = ", ".join(f"{count} {name}" for name, count in usage.things.items()) or "none"
    click.echo(f"{len(usage.frames)} frames; gates {kept}; things: {counted}")
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    end_on_signals()
    sys.exit(run_click(main, "token_usage", TYPED))
