"""What a policy's selection is worth on a trained model: the same weights with other selections, in PyTorch.

`all` runs every block on every token, `bypass` no gated block on any token: the distance between the two says how much
the model needs its depth. `learned` keeps the policy's best tokens at the target counts, `threshold` cuts at calibrated
thresholds, `random` draws as many tokens blindly, `uniform` takes as many at even distances, the same at every gate, and
`staggered` lets them take turns from gate to gate: a token that misses a block is first in the next.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import torch

from edgeprune.base.errors import choose
from edgeprune.base.table import INLINE, OPTIONAL
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.evaluate.tasks import METRICS
from edgeprune.evaluate.tasks.metric import Metric
from edgeprune.lab.token_selection import Decision, kept_masks, reactivation, watched_frames
from edgeprune.model.policy import Select
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import (
    select_all,
    select_none,
    select_over,
    select_random,
    select_staggered,
    select_uniform,
)
from edgeprune.quantize.calib import Calib
from edgeprune.quantize.calibrate import model_thresholds
from edgeprune.train.tasks import TASKS
from edgeprune.train.validation import best_tokens

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectionRow:
    """One selection.

    Attributes:
        seed: of a random one.
        tokens: processed over blocks, as a share of all.
        figures: of the model's task (`Judged.figures`), with more of them where details were asked for.
    """

    selection: str
    seed: int | None
    tokens: float
    figures: Mapping[str, Any] = field(metadata=INLINE)


@dataclass(frozen=True)
class SelectionAblation:
    """Every selection; of a policy without decisions nothing else.

    Attributes:
        depth_is_worth_points: the task's figure with all tokens less that of bypassing the gated blocks.
        random_mean: of the task's figure over the draws.
        decisions: where details were asked for.
    """

    rows: list[SelectionRow]
    depth_is_worth_points: float | None = field(default=None, metadata=OPTIONAL)
    random_mean: float | None = field(default=None, metadata=OPTIONAL)
    decisions: list[Decision] | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Scoring:
    """How every selection is scored: one model, on frames spread evenly over a split.

    Attributes:
        samples: from `evaluate.accuracy.open_scored`, with what the model's task scores.
        frames: how many; None: all.
        detail: also figures that take their time, those of each class, and which tokens come back.
    """

    model: Segmenter
    data_set: DataSet
    samples: Samples
    frames: int | None
    detail: bool = False

    @property
    def metric(self) -> type[Metric]:
        """Of the model's task: what its figure is called."""
        return choose(METRICS, self.model.spec.task, "task")

    def row(self, name: str, select: Select | None, seed: int | None = None) -> SelectionRow:
        """The row of one selection."""
        task, metric = choose(TASKS, self.model.spec.task, "task"), self.metric
        judged = task.judge(self.model, self.data_set, self.samples, self.frames, select, self.detail)
        logger.info(
            f"{name}{'' if seed is None else f' (seed {seed})'}: {metric.called()} {judged.figures[metric.figure]:.4f} at "
            f"{judged.tokens:.1%} of the tokens"
        )
        return SelectionRow(name, seed, round(judged.tokens, 4), judged.figures)


def ablate_selection(scoring: Scoring, calib: Calib | None, seeds: int) -> SelectionAblation:
    """The figure of the model's task for each selection of a policy that decides, and tokens processed over blocks as a share
    of all.

    Args:
        calib: for the row at calibrated thresholds; None leaves it out.
        seeds: how often `random` is drawn.
    """
    model, row, figure = scoring.model, scoring.row, scoring.metric.figure
    schedule = model.policy.schedule
    rows = [row("all", select_all), row("learned", best_tokens(model))]
    if calib is not None:
        rows.append(row("threshold", select_over(model_thresholds(model, calib))))
    for seed in range(seeds):
        drawn = select_random(schedule.target_candidates, torch.Generator().manual_seed(seed))
        rows.append(row("random", drawn, seed))
    if any(schedule.candidate_grid(decision) for decision in range(len(schedule.gated))):
        rows.append(row("uniform", select_uniform(schedule, schedule.target_counts)))
    if returning := model.policy.returning:
        rows.append(row("staggered", select_staggered(schedule, schedule.target_counts, returning)))
    rows.append(row("bypass", select_none))
    of_random = [each.figures[figure] for each in rows if each.selection == "random"]
    keep_GBN = kept_masks(model, watched_frames(model, scoring.samples)) if scoring.detail else None
    return SelectionAblation(
        rows,
        depth_is_worth_points=100 * (rows[0].figures[figure] - rows[-1].figures[figure]),
        random_mean=mean(of_random) if of_random else None,
        decisions=None if keep_GBN is None else reactivation(model.policy, keep_GBN),
    )


def ablate_depth(scoring: Scoring, first: int | None) -> SelectionAblation:
    """The figure of a model that decides nothing, and of its `first` blocks alone; None: of the whole model alone."""
    rows = [scoring.row("all", None)]
    if first is not None:
        model, blocks = scoring.model, scoring.model.blocks
        model.blocks = blocks[:first]
        rows.append(scoring.row(f"first {first} blocks", None))
        model.blocks = blocks
    return SelectionAblation(rows)
