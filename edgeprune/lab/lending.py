"""Whether hard frames should borrow from easy ones: accuracy at equal mean cost, against every fixed bucket and against as many
of each bucket given to frames at random.

    python -m edgeprune.lab.lending out/bundles/street-tiny-onnx-cpu --data camvid

Every bucket answers every frame. A frame's need is what its trunk counts. At the cost of each bucket, `lent` gives a frame the
smallest bucket that holds its need plus a shift, which is set anew from the needs of the last WINDOW frames so that their mean
cost is that of the bucket; `random` shuffles what `lent` gave, SHUFFLES times; `by the labels` gives out the same buckets to
the frames that gain most from them by their labels, which no device knows: what there is to be won at all.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import choose
from edgeprune.base.exit_code import run_click
from edgeprune.base.table import render_table
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.data import Sample
from edgeprune.evaluate.confusion import ConfusionMatrix
from edgeprune.lab.budgets import Frames, fitted
from edgeprune.runtime.budget.start import measure_costs
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.preparing import require_engine

TYPED = "python -m edgeprune.lab.lending"
WINDOW = 64
SHUFFLES = 20
COLUMNS = {
    "at": ("at the cost of", ""),
    "cost_ms": ("ms", ".1f"),
    "fixed": ("fixed", ".4f"),
    "lent_ms": ("lent, ms", ".1f"),
    "lent": ("lent", ".4f"),
    "random": ("random", ".4f"),
    "random_spread": ("+-", ".4f"),
    "by_labels": ("by the labels", ".4f"),
    "buckets": ("lent buckets", ""),
}


@dataclass(frozen=True)
class Answers:
    """What every bucket answers to every frame.

    Attributes:
        need_F: tokens that the trunk counts.
        counts_FBCC: label and prediction of each frame, in each bucket.
        cost_B: median milliseconds of trunk and tail, smallest bucket first.
        first_B: the deciding count of each bucket.
    """

    need_F: npt.NDArray[np.int64]
    counts_FBCC: npt.NDArray[np.int64]
    cost_B: npt.NDArray[np.float64]
    first_B: npt.NDArray[np.int64]
    names: list[str]

    def miou(self, chosen_F: npt.NDArray[np.int64]) -> float:
        """Of the frames, each in its bucket."""
        matrix = ConfusionMatrix(self.counts_FBCC.shape[-1], 255)
        matrix.counts_CC = self.counts_FBCC[np.arange(len(chosen_F)), chosen_F].sum(0)
        return matrix.miou


@dataclass(frozen=True)
class LendingRow:
    """At the mean cost of one bucket; mIoU of each way to choose."""

    at: str
    cost_ms: float
    fixed: float
    lent_ms: float
    lent: float
    random: float
    random_spread: float
    by_labels: float
    buckets: str


def answer_all(bundle: Bundle, engine: str, frames: Frames) -> Answers:
    """Runs every bucket on every frame."""
    precision = bundle.default_precision()
    opener = require_engine(bundle, engine)
    names, _ = opener.able(bundle, precision)
    session = opener.open(bundle, precision, buckets=names, threads=bundle.manifest.target.threads)
    try:
        trunk_ms, tails_ms = measure_costs(session, names, (bundle.manifest.height, bundle.manifest.width))
        needs, counts = [], []
        for sample in frames.samples:
            needs.append(session.start(fitted(frames, sample)))
            counts.append([confusion(frames, session.finish(name), sample) for name in names])
    finally:
        session.close()
    cost_B = np.array([median(trunk_ms) + median(tails_ms[name]) for name in names])
    first_B = np.array([bundle.bucket(name).first for name in names])
    return Answers(np.array(needs), np.array(counts), cost_B, first_B, names)


def confusion(frames: Frames, outputs: Outputs, sample: Sample) -> npt.NDArray[np.int64]:
    """Labels (rows) and predictions of one frame's pixels.

    Raises:
        InputError: the bundle gives no labels.
    """
    label_hw = choose(outputs, "labels", "output of a graph:")
    matrix = ConfusionMatrix(len(frames.data_set.names), frames.data_set.ignore_index)
    matrix.update(frames.preprocess.back(label_hw, *sample.label_HW.shape), sample.label_HW)
    return matrix.counts_CC


def lend(
    need_F: npt.NDArray[np.int64], first_B: npt.NDArray[np.int64], cost_B: npt.NDArray[np.float64], mean_ms: float
) -> npt.NDArray[np.int64]:
    """The bucket of each frame, by the frames until it.

    A frame gets the smallest bucket that holds its need plus a shift; the shift is the largest at which the last WINDOW frames,
    this one included, would have cost `mean_ms` on the mean.
    """
    shifts_S = np.unique((first_B[:, None] - np.unique(need_F)[None, :]).ravel())
    chosen = []
    for frame in range(len(need_F)):
        recent_W = need_F[max(0, frame - WINDOW + 1) : frame + 1]
        bucket_SW = np.minimum(np.searchsorted(first_B, recent_W[None, :] + shifts_S[:, None]), len(first_B) - 1)
        affordable_S = cost_B[bucket_SW].mean(1) <= mean_ms + 1e-9
        best = int(np.nonzero(affordable_S)[0].max()) if affordable_S.any() else 0
        chosen.append(int(bucket_SW[best, -1]))
    return np.array(chosen)


def by_labels(answers: Answers, chosen_F: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """As many of each bucket, the larger ones to the frames whose accuracy gains most over the smallest's."""
    right_FB = np.diagonal(answers.counts_FBCC, axis1=2, axis2=3).sum(-1)
    found_F = np.zeros_like(chosen_F)
    free = set(range(len(chosen_F)))
    for bucket in sorted(set(chosen_F.tolist()), reverse=True):
        gain = sorted(free, key=lambda frame: right_FB[frame, bucket] - right_FB[frame, 0], reverse=True)
        for frame in gain[: int((chosen_F == bucket).sum())]:
            found_F[frame] = bucket
            free.remove(frame)
    return found_F


def study(answers: Answers) -> list[LendingRow]:
    """A row at the cost of each bucket."""
    rows = []
    generator = np.random.default_rng(0)
    for place, name in enumerate(answers.names):
        cost_ms = float(answers.cost_B[place])
        lent_F = lend(answers.need_F, answers.first_B, answers.cost_B, cost_ms)
        shuffled = [answers.miou(generator.permutation(lent_F)) for _ in range(SHUFFLES)]
        rows.append(
            LendingRow(
                name,
                cost_ms,
                answers.miou(np.full(len(lent_F), place)),
                float(answers.cost_B[lent_F].mean()),
                answers.miou(lent_F),
                float(np.mean(shuffled)),
                float(np.std(shuffled)),
                answers.miou(by_labels(answers, lent_F)),
                ", ".join(
                    f"{answers.names[bucket]} {count}" for bucket, count in sorted(Counter(lent_F.tolist()).items())
                ),
            )
        )
    return rows


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, help="Data set, of which the labelled frames of `val` are taken, in their order."
)
@click.option("--frames", type=click.IntRange(2), help="So many, evenly spread; default: all.")
@click.option("--engine", help="Default: the target's.")
def main(bundle: Path, data: str, frames: int | None, engine: str | None) -> None:
    opened = open_bundle(bundle)
    answers = answer_all(opened, engine or opened.manifest.target.engine, Frames.of(opened, data, frames))
    click.echo(render_table(study(answers), COLUMNS))


if __name__ == "__main__":
    sys.exit(run_click(main, "lending", TYPED))
