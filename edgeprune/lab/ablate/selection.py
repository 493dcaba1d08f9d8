"""What a policy's selection is worth on a trained model: the same weights with other selections, in PyTorch.

`all` runs every block on every token, `bypass` no gated block on any token: the distance between the two says how much
the model needs its depth. `learned` keeps the policy's best tokens at the target counts, `threshold` cuts at calibrated
thresholds, `random` draws as many tokens blindly, `uniform` takes as many at even distances.
"""

import logging
from math import isnan
from statistics import mean
from typing import Any

import torch

from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.lab.token_selection import kept_masks, reactivation, watched_frames
from edgeprune.model.policy import Select
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.selection import (
    select_all,
    select_none,
    select_over,
    select_random,
    select_top,
    select_uniform,
)
from edgeprune.quantize.calib import Calib
from edgeprune.train.validation import score

logger = logging.getLogger(__name__)


def ablate_selection(
    model: Segmenter,
    data_set: DataSet,
    samples: Samples,
    calib: Calib | None,
    frames: int | None,
    seeds: int,
    bypass_from: int | None = None,
    detail: bool = False,
) -> dict[str, Any]:
    """mIoU of each selection, and tokens processed over blocks as a share of all.

    Args:
        seeds: how often `random` is drawn.
        bypass_from: for a dense model: the first block that `bypass` leaves out.
        detail: measure `boundary_f` and `per_class_iou` (by name) of each selection too, and which tokens come back.

    Returns:
        `rows`; of a policy with decisions `depth_is_worth_points` and `random_mean`; with `detail` also `decisions`, see
        `tokens.reactivation`.
    """
    rows: list[dict[str, Any]] = []

    def add(name: str, select: Select | None, seed: int | None = None) -> None:
        result = score(model, data_set, samples, frames, select, boundaries=detail)
        row: dict[str, Any] = {"selection": name, "seed": seed, "tokens": round(result.tokens, 4), "miou": result.miou}
        if detail:
            named = zip(data_set.names, result.per_class, strict=True)
            row["boundary_f"] = result.boundary_f
            row["per_class_iou"] = {label: None if isnan(iou) else iou for label, iou in named}
        rows.append(row)
        logger.info(
            f"{name}{'' if seed is None else f' (seed {seed})'}: mIoU {result.miou:.4f} at {result.tokens:.1%} of the tokens"
        )

    if not model.policy.gated:
        add("all", None)
        if bypass_from is not None:
            blocks = model.blocks
            model.blocks = blocks[:bypass_from]
            add(f"first {bypass_from} blocks", None)
            model.blocks = blocks
        return {"rows": rows}
    add("all", select_all)
    schedule = model.policy.schedule
    add("learned", select_top(schedule.target_candidates))
    if calib is not None:
        precision = "int8" if "int8" in calib.thresholds else "fp32"
        add("threshold", select_over(calib.thresholds_for(precision, len(model.policy.gated))))
    for seed in range(seeds):
        add("random", select_random(schedule.target_candidates, torch.Generator().manual_seed(seed)), seed)
    if schedule.merging < len(schedule.gated):
        add("uniform", select_uniform(schedule, schedule.target_counts))
    add("bypass", select_none)
    by_name = {name: [row["miou"] for row in rows if row["selection"] == name] for name in ("all", "random", "bypass")}
    result: dict[str, Any] = {
        "rows": rows,
        "depth_is_worth_points": 100 * (by_name["all"][0] - by_name["bypass"][0]),
        "random_mean": mean(by_name["random"]) if by_name["random"] else None,
    }
    if detail:
        keep_GBN = kept_masks(model, watched_frames(model, samples))
        assert keep_GBN is not None
        result["decisions"] = reactivation(model.policy, keep_GBN)
    return result
