"""How far two answers of the instance task are from each other: thing by thing, for things of equal scores come in any order.

Shapes: T things of one answer, S of the other, h w pixels.
"""

from collections.abc import Sequence

import numpy as np

from edgeprune.model.heads.head import Array

FAR = 1.0  # of a thing whose class the other answer does not have: no score, box or mask is farther off
CUT = 0.1  # a thing whose score is no more than this over the last one may have had no room in the other answer
NEAR = 0.01  # things of one class this near to each other are told apart by their masks


def largest_difference(expected: Sequence[Array], got: Sequence[Array]) -> float:
    """Between two answers, each `classes` (T), `scores` (T), `boxes` (T, 4) and `masks` (T, h, w; 0 to 255), the best first:
    the largest of a score, of a side of a box in shares of the input, or of a mask's probabilities on average, 0 to 1."""
    least = max(float(scores_T[-1]) for _, scores_T, _, _ in (expected, got)) + CUT
    return max(_from_one_side(expected, got, least), _from_one_side(got, expected, least))


def _from_one_side(ours: Sequence[Array], theirs: Sequence[Array], least: float) -> float:
    """How far the things of one answer are from the nearest of their class in the other.

    Args:
        least: scores from which things are looked at.
    """
    classes_T, scores_T, boxes_T4, masks_Thw = ours
    classes_S, scores_S, boxes_S4, masks_Shw = theirs
    worst = 0.0
    for index in np.flatnonzero(scores_T >= least):
        same = np.flatnonzero(classes_S == classes_T[index])
        if not len(same):
            return FAR
        score_S = np.abs(scores_S[same] - scores_T[index])
        apart_S = np.maximum(score_S, np.abs(boxes_S4[same] - boxes_T4[index]).max(-1))
        near = apart_S <= apart_S.min() + NEAR
        masks = [np.abs(masks_Shw[each] - masks_Thw[index].astype(np.float32)).mean() / 255 for each in same[near]]
        worst = max(worst, float(np.maximum(apart_S[near], masks).min()))
    return worst
