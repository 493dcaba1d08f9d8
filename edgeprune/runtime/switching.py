"""Two ways of one bundle for one stream: graphs that remember the frames before, while the camera stands, and those of each
frame by itself, while it moves and most tokens change.

Frames that remember pay where at most MOVING of the tokens have to be computed; a tail of half of them takes longer than the
buckets that frames ask for by themselves (docs/memory.md).
"""

import logging
from collections import deque
from statistics import median
from time import monotonic_ns
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.bundle.memory import STILL
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.choose import asked_for
from edgeprune.runtime.row import milliseconds
from edgeprune.runtime.running import Counted, Fitted, Running
from edgeprune.runtime.scene import CUT
from edgeprune.runtime.tasks import Result

logger = logging.getLogger(__name__)

# of the tokens: a frame that computes more, or would if a budget let it, would have been cheaper by itself
MOVING = 0.25
RECENT, MOST_MOVING = 10, 7  # frames that are looked at, and how many of them end a way that remembers
STANDS = 0.1  # of the pixels: a camera of which fewer change stands
WAIT, LONGEST_WAIT = 10, 320  # frames in which it has to, doubled each time that it was a mistake
MEASURED = 7  # frames that tell which of two is faster
PROVEN = 100  # frames that remember after which it was none


def answers_otherwise(remembering: Running) -> str | None:
    """Why graphs that this device compiled can't be taken: with all tokens they do not answer as the bundle's references do, by
    which it chose the graphs of each frame by itself. None: they do, or nothing was compiled since the build."""
    try:
        if remembering.bundle.manifest.target.compiled_on_device:
            remembering.check()
    except InputError as error:
        return str(error)
    return None


def too_slow(remembering: Running, alone: Running) -> str | None:
    """Why remembering does not pay with this engine on this machine: its smallest tail takes as long as the smallest one that a
    frame asks for by itself, both with their trunks; None: it does."""
    own = asked_for([bucket for bucket in alone.bundle.manifest.buckets if bucket.name in alone.buckets])[0].name
    smallest = next(name for name in remembering.buckets if name != STILL)
    ours_ms, theirs_ms = _takes_ms(remembering, smallest), _takes_ms(alone, own)
    if ours_ms < theirs_ms:
        return None
    engine = alone.session.describe()["engine"]
    return f"in {engine} its {smallest} takes {ours_ms:.1f} ms here, {own} of a frame by itself {theirs_ms:.1f}"


def _takes_ms(running: Running, bucket: str) -> float:
    """The median of a few grey frames in a bucket."""
    manifest, taken = running.bundle.manifest, []
    grey_HW3 = np.full((manifest.height, manifest.width, 3), 128, np.uint8)
    running.session.start(grey_HW3)
    running.session.finish(bucket)  # of a state that is not there all tokens are computed
    for _ in range(MEASURED):
        began_ns = monotonic_ns()
        running.session.start(grey_HW3)
        running.session.finish(bucket)
        taken.append(milliseconds(began_ns, monotonic_ns()))
    running.session.reset()
    return median(taken)


class Switching(Running):
    """`remembering` and `alone` by turns, beginning with the first. What is asked of it is answered by the one that runs.

    Attributes:
        switches: how often it went from one to the other.
    """

    def __init__(self, remembering: Running, alone: Running):
        self.bundle, self.all_tokens = alone.bundle, alone.all_tokens
        self.remembering, self.alone = remembering, alone
        self.switches = 0
        assert remembering.scene  # whichever way runs, it sees every frame
        self._runs, self._scene = remembering, remembering.scene
        self._moving: deque[bool] = deque(maxlen=RECENT)
        self._stood, self._wait, self._remembered = 0, WAIT, 0
        self._changed = 0.0  # of the frame before, as a share of its pixels
        self._take(remembering)

    def _take(self, running: Running) -> None:
        self._runs = running
        self.session, self.chooser, self.governor = running.session, running.chooser, running.governor
        self.buckets = running.buckets

    @property
    def chosen_by(self) -> str:
        """Of the frames that remember."""
        return self.remembering.chosen_by

    def fit(self, frame: Frame) -> Fitted:
        return self.alone.fit(frame)

    def process(
        self, frame: Frame, before: Counted, ahead: Fitted | None = None, whole: bool = False, began_ns: int = 0
    ) -> Result:
        """As `Running.process`, by the way that pays. The first frame after a cut asks for all tokens in both; one of a fast
        turn, of which the frame before was as new, does not."""
        fitted = ahead if ahead and self.alone.fits(ahead) else self.fit(frame)
        given = fitted if ahead is None else ahead
        if self._runs is self.alone:
            changed = self._scene.look(fitted.image_HW3, frame.image_HW3.shape[:2])
            whole, self._changed = whole or changed > CUT >= self._changed, changed
            if self._stands(changed):
                self._switch(
                    self.remembering, f"the camera has stood for {self._wait} frames: what changes is computed"
                )
        result = self._runs.process(frame, before, given, whole, began_ns)
        if self._runs is self.remembering:
            self._judge(result)
        return result

    def _stands(self, changed: float) -> bool:
        self._stood = self._stood + 1 if changed < STANDS else 0
        return self._stood >= self._wait

    def _judge(self, result: Result) -> None:
        """After a frame that remembered: whether the next one does."""
        self._remembered += 1
        if self._remembered == PROVEN:
            self._wait = WAIT
        # a budget may compute fewer than changed, and a frame after a cut all of them
        computed, wanted = result.facts.tokens / self.all_tokens, self.remembering.wanted / self.remembering.tokens
        self._moving.append(max(computed, wanted) > MOVING)
        if sum(self._moving) >= MOST_MOVING:
            if self._remembered < PROVEN:
                self._wait = min(2 * self._wait, LONGEST_WAIT)
            often = f"in {sum(self._moving)} of {len(self._moving)} frames"
            share = f"over {MOVING:.0%} of the tokens had to be computed {often}"
            self._switch(self.alone, f"{share}: each frame is computed by itself until the camera stands")

    def _switch(self, to: Running, why: str) -> None:
        if to.governor and self.governor:
            to.governor.idle_w = self.governor.idle_w
        if self.governor:
            self.governor.pause()
        self.remembering.session.reset()
        self._moving.clear()
        self._stood, self._remembered, self._changed = 0, 0, 1.0  # the first frame by itself is no cut
        self.switches += 1
        self._take(to)
        logger.info(why)

    @property
    def shares(self) -> dict[str, float]:
        return self.remembering.shares | self.alone.shares

    def describe(self) -> dict[str, Any]:
        """Of each frame by itself, and what is held for those that remember, whichever runs."""
        return self.alone.describe() | {"memory_mb": self.remembering.describe()["memory_mb"]}

    def check(self) -> None:
        for each in (self.remembering, self.alone):
            each.check()

    def map_tokens(self, seconds: float) -> bool:
        asked = [each.map_tokens(seconds) for each in (self.alone, self.remembering)]
        return any(asked)

    def close(self) -> None:
        try:
            self.remembering.close()
        finally:
            self.alone.close()
