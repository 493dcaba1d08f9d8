"""The bucket family: few whole keep schedules, placed where the calibration frames need them.

Shapes: F calibration frames, G gates.
"""

from math import ceil

import numpy as np

from edgeprune.config import BucketFamily
from edgeprune.model.policy import Bucket, TokenPolicy

FULL = "full"


def place_buckets(policy: TokenPolicy, spec: BucketFamily, occupancy_FG: list[list[float]] | None) -> list[Bucket]:
    """Buckets from small to large; the last is the full grid, so that any count finds one that holds it.

    With measured occupancy the first gate's counts are cut at even quantiles of the frames, and each later gate gets the
    mean need of the frames that fall between two cuts. Without, schedules are the policy's target ratios scaled by even
    steps. Counts are rounded up to the target's multiple: a bucket is filled with real tokens, the next best ones.
    """
    full = Bucket(FULL, (policy.tokens,) * len(policy.gated))
    small = spec.count - 1
    if not policy.gated or small == 0:
        return [full]
    schedules: list[tuple[int, ...]] = []
    if occupancy_FG is None:
        for index in range(1, small + 1):
            scale = index / small
            schedules.append(
                tuple(_round_up(scale * keep * policy.tokens, policy, spec) for keep in policy.target_keep)
            )
    else:
        # the shares were rounded on their way through a YAML; the counts they stand for are whole
        count_FG = np.rint(np.asarray(occupancy_FG) * policy.tokens)
        order_F = np.argsort(count_FG[:, 0], kind="stable")
        for frames in np.array_split(order_F, small):
            if not len(frames):
                continue
            first = count_FG[frames, 0].max()
            later = count_FG[frames, 1:].mean(axis=0)
            schedules.append(tuple(_round_up(count, policy, spec) for count in (first, *later.tolist())))
    chosen: dict[int, tuple[int, ...]] = {}
    for schedule in schedules:
        if schedule[0] < policy.tokens:
            # two cuts that round to the same first count are one bucket, with the larger need at every gate
            before = chosen.get(schedule[0], schedule)
            chosen[schedule[0]] = tuple(max(pair) for pair in zip(before, schedule, strict=True))
    return [Bucket(f"k{first}", counts) for first, counts in sorted(chosen.items())] + [full]


def _round_up(count: float, policy: TokenPolicy, spec: BucketFamily) -> int:
    return int(min(policy.tokens, max(spec.multiple, ceil(count / spec.multiple - 1e-6) * spec.multiple)))
