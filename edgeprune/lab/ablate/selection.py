"""What a policy's selection is worth on a trained model: the same weights with other selections, in PyTorch.

`all` runs every block on every token, `bypass` no gated block on any token: the distance between the two says how much
the model needs its depth. `learned` keeps the policy's best tokens at the target counts, `threshold` cuts at calibrated
thresholds, `random` draws as many tokens blindly, `uniform` takes as many at even distances, the same at every gate, and
`staggered` lets them take turns from gate to gate: a token that misses a block is first in the next.
"""

import logging
from dataclasses import dataclass, field
from math import isnan
from statistics import mean

import torch

from edgeprune.base.table import OPTIONAL
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.lab.token_selection import Decision, kept_masks, reactivation, watched_frames
from edgeprune.model.policy import Select
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import (
    select_all,
    select_none,
    select_over,
    select_random,
    select_staggered,
    select_top,
    select_uniform,
)
from edgeprune.quantize.calib import Calib
from edgeprune.quantize.calibrate import model_thresholds
from edgeprune.train.validation import score

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectionRow:
    """One selection.

    Attributes:
        seed: of a random one.
        tokens: processed over blocks, as a share of all.
        miou: 0 to 1.
        boundary_f, per_class_iou: where details were asked for; None for a class that no label has.
    """

    selection: str
    seed: int | None
    tokens: float
    miou: float
    boundary_f: float | None = field(default=None, metadata=OPTIONAL)
    per_class_iou: dict[str, float | None] | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class SelectionAblation:
    """Every selection; of a policy without decisions nothing else.

    Attributes:
        depth_is_worth_points: mIoU of all tokens less that of bypassing the gated blocks.
        random_mean: mIoU over the draws.
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
        frames: how many; None: all.
        detail: measure `boundary_f` and `per_class_iou` too, and which tokens come back.
    """

    model: Segmenter
    data_set: DataSet
    samples: Samples
    frames: int | None
    detail: bool = False

    def row(self, name: str, select: Select | None, seed: int | None = None) -> SelectionRow:
        """The row of one selection."""
        result = score(self.model, self.data_set, self.samples, self.frames, select, boundaries=self.detail)
        named = zip(self.data_set.names, result.per_class, strict=True)
        by_class = {label: None if isnan(iou) else iou for label, iou in named} if self.detail else None
        logger.info(
            f"{name}{'' if seed is None else f' (seed {seed})'}: mIoU {result.miou:.4f} at {result.tokens:.1%} of the tokens"
        )
        return SelectionRow(name, seed, round(result.tokens, 4), result.miou, result.boundary_f, by_class)


def ablate_selection(scoring: Scoring, calib: Calib | None, seeds: int) -> SelectionAblation:
    """mIoU of each selection of a policy that decides, and tokens processed over blocks as a share of all.

    Args:
        calib: for the row at calibrated thresholds; None leaves it out.
        seeds: how often `random` is drawn.
    """
    model, row = scoring.model, scoring.row
    schedule = model.policy.schedule
    rows = [row("all", select_all), row("learned", select_top(schedule.target_candidates))]
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
    of_random = [each.miou for each in rows if each.selection == "random"]
    keep_GBN = kept_masks(model, watched_frames(model, scoring.samples)) if scoring.detail else None
    return SelectionAblation(
        rows,
        depth_is_worth_points=100 * (rows[0].miou - rows[-1].miou),
        random_mean=mean(of_random) if of_random else None,
        decisions=None if keep_GBN is None else reactivation(model.policy, keep_GBN),
    )


def ablate_depth(scoring: Scoring, first: int | None) -> SelectionAblation:
    """mIoU of a model that decides nothing, and of its `first` blocks alone; None: of the whole model alone."""
    rows = [scoring.row("all", None)]
    if first is not None:
        model, blocks = scoring.model, scoring.model.blocks
        model.blocks = blocks[:first]
        rows.append(scoring.row(f"first {first} blocks", None))
        model.blocks = blocks
    return SelectionAblation(rows)
