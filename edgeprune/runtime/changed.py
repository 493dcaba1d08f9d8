"""How many tokens of a frame have to be computed where a bundle remembers the frames before, from the scores of its trunk.

Scores are distances of embeddings, 1 between two scenes; TURN and more of tokens whose turn it is (`model/memory.py`).

Shapes: N tokens.
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
    """Of a frame: how many tokens changed whose turn it is not, and how many have their turn."""

    changed: int
    due: int


def count_changed(scores_N: npt.NDArray[Any]) -> Changed:
    """Of a trunk's scores."""
    own = scores_N[scores_N < TURN]
    if not len(own):
        return Changed(0, len(scores_N))
    quarter = len(own) // 4
    noise = float(np.partition(own, quarter)[quarter])
    threshold = min(max(LEAST, NOISE * noise), MOST)
    return Changed(int((own > threshold).sum()), len(scores_N) - len(own))
