"""The bucket family: few whole keep schedules, placed where the calibration frames need them.

Shapes: F calibration frames, G gates.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np

from edgeprune.bundle import FULL
from edgeprune.bundle.target import BucketFamily
from edgeprune.model.policy import Bucket
from edgeprune.model.schedule import Schedule

# rows of a tensor in a graph: 513 cost an engine one tile of a matrix product more than 512, and every eighth keeps FP16 rows
# aligned to 16 bytes; no row is computed that a bucket has no use for, they are real tokens
ROWS = 8
# a bucket of headroom where so many lie under the full grid
HEADROOM_FROM = 3
# Later decisions have no bucket of their own to choose, so a count at the mean need would cut every other frame short there.
# On the shipped model's calibration frames this share costs 2.4 points more of the dense model's tokens than the mean.
HOLDS = 0.75


def place_buckets(schedule: Schedule, spec: BucketFamily, occupancy_FG: list[list[float]] | None) -> list[Bucket]:
    """Buckets from small to large; the last is the full grid, so that any count finds one that holds it. Of four and more
    the last but one lies midway between the largest that calibration asks for and the full grid: a stream whose frames
    need somewhat more than those should not pay for all.

    With measured occupancy the counts of the decision that picks the bucket (most often the first) are cut at even
    quantiles of the frames; each other decision gets what `HOLDS` of the frames that fall between two cuts need, made to
    rise with the buckets (a larger bucket computes no less anywhere). Without, schedules are the policy's target ratios
    scaled by even steps. The deciding count, which a frame's need is held against, is rounded up to the target's
    multiple, the others to the nearest; a method that can't have that count gets one between the need and it that it can
    have, else the next. Rows but the full grid's are in multiples of `ROWS` (see `in_rows`). A bucket is
    filled with real tokens, the next best ones.

    A policy that was trained with fewer tokens than its target has two buckets more (`small_scales`).
    """
    by = schedule.chosen_by
    full = Bucket(FULL, (schedule.tokens,) * len(schedule.gated))
    small = spec.count - 1
    if not schedule.gated or small == 0:
        return [full]
    headroom = small >= HEADROOM_FROM
    small -= headroom
    if occupancy_FG is None:
        scales_S1 = np.arange(1, small + 1)[:, None] / small
        needs_SG = scales_S1 * np.asarray(schedule.target_shares) * schedule.tokens
    else:
        # the shares were rounded on their way through a YAML; the counts they stand for are whole
        count_FG = np.rint(np.asarray(occupancy_FG) * schedule.tokens)
        order_F = np.argsort(count_FG[:, by], kind="stable")
        parts = [frames for frames in np.array_split(order_F, small) if len(frames)]
        needs_SG = np.stack([np.quantile(count_FG[frames], HOLDS, axis=0) for frames in parts])
        sizes_S = [len(frames) for frames in parts]
        for gate in range(needs_SG.shape[1]):
            needs_SG[:, gate] = rising(needs_SG[:, gate].tolist(), sizes_S)
        needs_SG[:, by] = [count_FG[frames, by].max() for frames in parts]
    if headroom:
        needs_SG = np.vstack((needs_SG, (needs_SG[-1] + schedule.tokens) / 2))
    chosen: dict[int, tuple[int, ...]] = {}
    for needs_G in needs_SG.tolist():
        multiples = [
            ceil(need / spec.multiple - 1e-6) if gate == by else round(need / spec.multiple)
            for gate, need in enumerate(needs_G)
        ]
        counts = [
            min(schedule.tokens, max(1, max(1, multiple) * spec.multiple - schedule.extra_rows * (gate != by)))
            for gate, multiple in enumerate(multiples)
        ]
        found = nearest(schedule, _all_beyond(spec.most, counts, schedule), ceil(needs_G[by] - 1e-6))
        found = in_rows(schedule, _all_beyond(spec.most, found, schedule))
        if found[by] < schedule.tokens:
            # two cuts that round to the same deciding count are one bucket, with the larger need at every gate
            before = chosen.get(found[by], found)
            chosen[found[by]] = in_rows(schedule, [max(pair) for pair in zip(before, found, strict=True)])
    asked = [Bucket(f"k{first}", counts) for first, counts in sorted(chosen.items())] + [full]
    return [*_for_budgets(schedule, spec, asked[0]), *asked]


def _for_budgets(schedule: Schedule, spec: BucketFamily, smallest: Bucket) -> list[Bucket]:
    """The buckets at `small_scales` that are smaller than the smallest that frames ask for, smallest first."""
    by = schedule.chosen_by
    small = {
        counts[by]: counts
        for scale in small_scales(schedule)
        for counts in [in_rows(schedule, _all_beyond(spec.most, schedule.counts_at(scale), schedule))]
        if counts[by] < smallest.counts[by]
    }
    return [Bucket(f"k{first}", counts, for_budgets=True) for first, counts in sorted(small.items())]


def small_scales(schedule: Schedule) -> list[float]:
    """Scales of the target at which buckets for tight budgets lie, below those that frames ask for, the larger one first:
    the fewest tokens that the policy was trained with, and midway to the target by ratio."""
    return [schedule.least**0.5, schedule.least] if schedule.least else []


def buckets_of_frames(
    schedule: Schedule, buckets: Sequence[Bucket], occupancy_FG: Sequence[Sequence[float]]
) -> list[int]:
    """The number of the smallest bucket that holds what each frame asks for; none that is for budgets."""
    by = schedule.chosen_by
    needs_F = np.rint(np.asarray(occupancy_FG)[:, by] * schedule.tokens)
    asked = [bucket.counts[by] for bucket in buckets if not bucket.for_budgets]
    numbers_F: list[int] = (np.searchsorted(asked, needs_F) + len(buckets) - len(asked)).tolist()
    return numbers_F


def _all_beyond(most: int | None, counts: Sequence[int], schedule: Schedule) -> list[int]:
    """Where a decision can't pick so many, all; of groups it picks those that merge, which are few."""
    if most is None:
        return list(counts)
    return [
        schedule.tokens if count > most and not schedule.merges_at(decision) else count
        for decision, count in enumerate(counts)
    ]


def nearest(schedule: Schedule, counts: Sequence[int], least: int) -> tuple[int, ...]:
    """The schedule `in_rows` whose deciding count is the largest that is none over `counts`' and none under `least`; where
    there is none, the smallest that is over it."""
    by = schedule.chosen_by
    for count in range(counts[by], min(least, counts[by]) - 1, -1):
        found = in_rows(schedule, [*counts[:by], count, *counts[by + 1 :]])
        if found[by] == count:
            return found
    return in_rows(schedule, counts)


def in_rows(schedule: Schedule, counts: Sequence[int]) -> tuple[int, ...]:
    """The smallest counts that the method can have, none under those asked for, that leave a multiple of `ROWS` rows after
    each decision that makes rows, with what the policy adds to them, or the full grid."""
    found = schedule.round_up(counts)
    while True:
        rounded = [
            min(schedule.tokens, ceil((count + schedule.extra_rows) / ROWS) * ROWS - schedule.extra_rows)
            if schedule.makes_rows(decision)
            else count
            for decision, count in enumerate(found)
        ]
        if list(found) == rounded:
            return found
        found = schedule.round_up(rounded)


def rising(values: list[float], weights: list[int]) -> list[float]:
    """The sequence that never falls and is closest to `values`, of the same weighted mean: isotonic regression by pooling
    adjacent violators (Ayer 1955)."""
    pools: list[tuple[float, int, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, before, count = pools.pop()
            total = before + pool[1]
            pool = ((mean * before + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]
