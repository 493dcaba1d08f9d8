"""How many tokens of a frame have to be computed where a bundle remembers the frames before, from the scores of its trunk.

Scores are distances of embeddings, 1 between two scenes; TURN and more of tokens whose turn it is (`model/memory.py`).

Shapes: N tokens, G groups of M of them.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgeprune.bundle.memory import TURN

# A camera's noise moves all embeddings alike, by its strength: of the zoo's narrowed model 2 levels of 255, drawn for each
# pixel, by .076 of the distance of two scenes, 5 by .19, 8 by .30, the worst of 768 tokens by a third more. So a token has
# changed that lies over what a quarter of the frame stays under, times NOISE; where more than three quarters move, that says
# nothing, and MOST is enough.
LEAST, NOISE, MOST = 0.1, 1.5, 0.4


class Changed(NamedTuple):
    """Of a group of a frame's tokens: how many changed whose turn it is not, and how many have their turn."""

    changed: int
    due: int


def is_slight(scores_N: npt.NDArray[Any]) -> bool:
    """Whether no token changed by as much as MOST, of those whose turn it is not: a flicker of the light, or of what a camera's
    compression made of it."""
    return not bool(((scores_N >= MOST) & (scores_N < TURN)).any())


def count_changed(scores_N: npt.NDArray[Any], tokens_GM: npt.NDArray[np.int64] | None = None) -> list[Changed]:
    """Of a trunk's scores, in each group.

    Args:
        tokens_GM: see `bundle.memory.group_tokens`; None: all are one group.
    """
    is_due_N = scores_N >= TURN
    own, threshold = scores_N[~is_due_N], MOST
    if len(own):
        quarter = len(own) // 4
        noise = float(np.partition(own, quarter)[quarter])
        threshold = min(max(LEAST, NOISE * noise), MOST)
    is_changed_N = ~is_due_N & (scores_N > threshold)
    if tokens_GM is None:
        tokens_GM = np.arange(len(scores_N))[None]
    changed_G, due_G = is_changed_N[tokens_GM].sum(1), is_due_N[tokens_GM].sum(1)
    return [Changed(int(changed), int(due)) for changed, due in zip(changed_G, due_G, strict=True)]
