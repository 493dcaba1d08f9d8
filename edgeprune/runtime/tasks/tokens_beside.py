"""What is found in a frame, and beside it what became of its tokens: those that it computed where it remembers the frames
before, else what the first decision of the policy made of them.

Shapes: H W pixels of the first frame, of which larger ones are reduced.
"""

from functools import partial

import numpy as np
from PIL import Image

from edgeprune.bundle import Manifest
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.tasks.overlay import Overlay
from edgeprune.runtime.tasks.result import FrameFacts, Result
from edgeprune.runtime.tasks.token_lines import CHIPS_RGB, TURN_RGB, draw_tokens

MOST_PX = 1280  # of a half's longer side: a larger one is halved, or divided by three, ...
BRIGHT, DARK = CHIPS_RGB
REMEMBERED = Overlay(["computed", "refreshed: computed, as it was their turn", "carried"], [BRIGHT, TURN_RGB, DARK])
LETS_GO = Overlay(["go on", "let go"], [BRIGHT, DARK])
MERGES = Overlay(["each box is one token"], [BRIGHT])
UNKNOWN = Overlay([], [])


class TokensBeside:
    """Draws the frames of one bundle and one camera, in pictures of one size."""

    def __init__(self, manifest: Manifest):
        self._policy, self._fit = manifest.policy, Preprocess.of(manifest)
        self._size: Preprocess | None = None

    def draw(self, result: Result) -> UInt8:
        """Both halves, side by side (H, 2 W, 3), uint8 RGB; frames of another size than the first are fitted to it."""
        halves = [_reduced(result.overlay(status=said(result))), _reduced(self._tokens(result.facts))]
        self._size = self._size or Preprocess(*halves[0].shape[:2])
        return np.hstack([self._size.fit(half_HW3) for half_HW3 in halves])

    def _tokens(self, facts: FrameFacts) -> UInt8:
        """The frame with what became of its tokens."""
        image_HW3, tokens = facts.frame.image_HW3, facts.token_map
        if tokens is None or tokens.left is None:
            return UNKNOWN.caption(image_HW3, f"no decision of {self._policy} can be seen")
        if facts.remembered:
            drawing, title = REMEMBERED, "the tokens that this frame computed"
        else:
            drawing = MERGES if tokens.decision.merges else LETS_GO
            title = f"first decision of {self._policy}: {tokens.left} of {tokens.tokens} tokens are left"
        return drawing.draw_over(image_HW3, title, [partial(draw_tokens, tokens=tokens, fit=self._fit)])


def said(result: Result) -> str:
    """A line about a frame's bucket and tokens: `bucket m24: 24 of 768 tokens computed, 744 carried, 18 refreshed`."""
    facts, counts = result.facts, result.counts()
    if remembered := facts.remembered:
        tokens = remembered.computed + remembered.carried
        line = f"{remembered.computed} of {tokens} tokens computed, {remembered.carried} carried"
        line += f", {remembered.refreshed} refreshed"
    else:
        line = f"by itself, {facts.token_share:.0%} of the dense model's tokens"
    things = sum(counts.values()) if counts is not None else None
    found = "" if things is None else f", {things} thing{'' if things == 1 else 's'}"
    return f"bucket {facts.bucket}: {line}{found}"


def _reduced(picture_HW3: UInt8) -> UInt8:
    factor = -(-max(picture_HW3.shape[:2]) // MOST_PX)
    return picture_HW3 if factor == 1 else np.asarray(Image.fromarray(picture_HW3).reduce(factor))
