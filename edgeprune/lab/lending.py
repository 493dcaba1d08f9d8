"""Whether hard frames should borrow from easy ones: accuracy at equal mean cost, against every fixed bucket and against as many
of each bucket given to frames at random.

    python -m edgeprune.lab.lending out/bundles/street-tiny-onnx-cpu --data camvid

Every bucket answers every frame. A frame's need is what its trunk counts. At the cost of each bucket, `lent` gives a frame the
smallest bucket that holds its need plus a shift, which is set anew from the needs of the last WINDOW frames so that their mean
cost is that of the bucket; `random` shuffles what `lent` gave, SHUFFLES times; `by the labels` is the best that was found at
that mean cost by who knows the labels, which no device does: what there is to be won at all.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import choose
from edgeprune.base.exit_code import run_click
from edgeprune.base.table import render_table
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.data import Sample
from edgeprune.evaluate.confusion import ConfusionMatrix
from edgeprune.evaluate.tasks.metric import check_classes
from edgeprune.lab.budgets import Frames, fitted
from edgeprune.runtime.budget.start import measure_costs
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.preparing import require_engine

TYPED = "python -m edgeprune.lab.lending"
WINDOW = 64
SHUFFLES = 20
ROUNDS, HALVINGS = 30, 60  # of the search for the best choice, and for its price
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


def out_of_order(answers: Answers) -> str | None:
    """A line where a larger bucket took no longer than a smaller one; None where each took longer."""
    if (np.diff(answers.cost_B) > 0).all():
        return None
    shown = ", ".join(f"{name} {cost_ms:.1f} ms" for name, cost_ms in zip(answers.names, answers.cost_B, strict=True))
    return (
        f"a larger bucket took no longer than a smaller one ({shown}): where something else takes the processors, what is lent "
        "is chance; `top` names it, run this again without it"
    )


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


def by_labels(answers: Answers, place: int) -> npt.NDArray[np.int64]:
    """The buckets with the best mIoU that was found at the mean cost of the bucket at `place`, which all frames have at first.

    mIoU is a mean over classes of all frames' pixels, so a frame's bucket is worth what its pixels add to that, by the gradient
    at the totals. Each frame gets the bucket of the largest worth less cost at the least price of a millisecond that keeps to
    the mean cost; the totals go half way to those of that choice, ROUNDS times. The best choice may be better still.
    """
    frames_F, mean_ms = np.arange(len(answers.need_F)), float(answers.cost_B[place])
    best_F = np.full(len(frames_F), place)
    total_CC = answers.counts_FBCC[:, place].sum(0).astype(np.float64)
    for _ in range(ROUNDS):
        chosen_F = _affordable(_worth(answers.counts_FBCC, total_CC), answers.cost_B, mean_ms)
        total_CC = (total_CC + answers.counts_FBCC[frames_F, chosen_F].sum(0)) / 2
        best_F = max(best_F, chosen_F, key=answers.miou)
    return best_F


def _worth(counts_FBCC: npt.NDArray[np.int64], total_CC: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What each frame's pixels add to mIoU in each bucket (F, B), where mIoU is linear about the totals."""
    both_C, union_C = _both_and_union(total_CC)
    present_C = total_CC.sum(1) > 0
    slope_C = present_C / np.maximum(union_C, 1) / max(present_C.sum(), 1)
    both_FBC, union_FBC = _both_and_union(counts_FBCC)
    return np.asarray(((both_FBC - union_FBC * both_C / np.maximum(union_C, 1)) * slope_C).sum(-1))


def _both_and_union(counts_CC: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Intersection and union of each class (..., C)."""
    both_C = np.diagonal(counts_CC, axis1=-2, axis2=-1)
    return both_C, counts_CC.sum(-1) + counts_CC.sum(-2) - both_C


def _affordable(
    worth_FB: npt.NDArray[np.float64], cost_B: npt.NDArray[np.float64], mean_ms: float
) -> npt.NDArray[np.int64]:
    """The bucket of each frame with the largest worth less cost, at the least price of a millisecond that is enough."""
    low, high = 0.0, float(np.ptp(worth_FB)) / float(np.diff(np.sort(cost_B)).min(initial=np.inf))
    for _ in range(HALVINGS):
        price = (low + high) / 2
        affordable = cost_B[(worth_FB - price * cost_B).argmax(1)].mean() <= mean_ms + 1e-9
        low, high = (low, price) if affordable else (price, high)
    return (worth_FB - high * cost_B).argmax(1)


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
                answers.miou(by_labels(answers, place)),
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
    labelled = Frames.of(opened, data, frames)
    check_classes(opened.manifest.names, f"bundle {opened.folder}", labelled.data_set)
    answers = answer_all(opened, engine or opened.manifest.target.engine, labelled)
    if warning := out_of_order(answers):
        click.echo(warning, err=True)
    click.echo(render_table(study(answers), COLUMNS))


if __name__ == "__main__":
    sys.exit(run_click(main, "lending", TYPED))
