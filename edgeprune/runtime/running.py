"""What of a stream belongs to one bundle: its graphs, opened, and what decides about a frame's bucket. Another takes its place
between two frames (`renewal.py`)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edgeprune.bundle import Bundle
from edgeprune.bundle.memory import STILL
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.budget.governor import Governor
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.choose import CHOOSERS, Chooser, smallest_holding
from edgeprune.runtime.engines import Session
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.first_decision import FirstDecision, TokenMap
from edgeprune.runtime.references import refuse_disagreeing
from edgeprune.runtime.row import milliseconds
from edgeprune.runtime.scene import CUT, SceneChange
from edgeprune.runtime.tasks import FrameFacts, Result, open_task


@dataclass(frozen=True)
class Counted:
    """What a stream has done before a frame: how many frames, and when the first began (0: none has)."""

    frames: int
    began_ns: int


class Fitted(NamedTuple):
    """A frame at the size of an input: image_HW3 (uint8 RGB), what it was fitted by, and when that was begun and done, by the
    monotonic clock."""

    image_HW3: UInt8
    preprocess: Preprocess
    start_ns: int
    end_ns: int


class Running:
    """A bundle's graphs at work.

    Attributes:
        bundle: what `session` was opened from.
        session: opened, and so warmed up.
        chooser: of a frame's bucket.
        governor: of a budget, or None.
        buckets: that can run here, smallest first.
        scene: of frames that remember, how much changes from one to the next; else None.
        all_tokens: what the dense model processes in a frame, summed over the blocks.
        tokens, wanted: of the grid, and those that the newest frame asked for, whatever bucket it got.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        chooser: Chooser,
        governor: Governor | None = None,
        buckets: Sequence[str] | None = None,
        chosen_by: str = next(iter(CHOOSERS)),
    ):
        self.buckets = [bucket.name for bucket in bundle.manifest.buckets] if buckets is None else list(buckets)
        self.bundle, self.session, self.chooser, self.governor = bundle, session, chooser, governor
        self._chosen_by = chosen_by
        self.tokens, self.wanted = bundle.manifest.tokens, 0
        self.all_tokens = bundle.manifest.depth * self.tokens
        self._fit, self._task = Preprocess.of(bundle.manifest), open_task(bundle.manifest)
        decision = FirstDecision.remembered if bundle.remembers else FirstDecision.of
        self._first, self._map_tokens_until_ns = decision(bundle.manifest), 0
        self.scene = SceneChange() if bundle.remembers else None
        session.reset()  # of what it was warmed up and measured with
        self._entries = [bucket for bucket in bundle.manifest.buckets if bucket.name in self.buckets]
        self._tokens_of = {bucket.name: bucket.token_layers for bucket in bundle.manifest.buckets}

    def fit(self, frame: Frame) -> Fitted:
        """The frame at the size of the input; in any thread."""
        start_ns = time.monotonic_ns()
        fitted_HW3 = self._fit.fit(frame.image_HW3)
        return Fitted(fitted_HW3, self._fit, start_ns, time.monotonic_ns())

    def fits(self, ahead: Fitted) -> bool:
        """Whether a frame was fitted to this bundle's input."""
        return ahead.preprocess == self._fit

    def process(
        self, frame: Frame, before: Counted, ahead: Fitted | None = None, whole: bool = False, began_ns: int = 0
    ) -> Result:
        """One frame: fit, trunk, choose, tail.

        Args:
            ahead: the frame, fitted already; where it was fitted to another bundle's input, it is fitted anew.
            whole: the frame asks for the largest bucket, whatever is in it; a budget may still give it a smaller one.
            began_ns: when it was begun by graphs that failed on it, from where its latency counts; 0: none have.
        """
        governor = self.governor
        fitted = ahead if ahead and self.fits(ahead) else self.fit(frame)
        start_ns = began_ns or (ahead or fitted).start_ns
        begun_ns = time.monotonic_ns() if fitted is ahead else fitted.end_ns
        if self.scene and self.scene.look(fitted.image_HW3, frame.image_HW3.shape[:2]) > CUT:
            self.session.reset()  # whatever bucket it gets, the frame is computed whole
        self.wanted = count = self.session.start(fitted.image_HW3)
        trunk_ns = time.monotonic_ns()
        scores_S = self.session.scores() if start_ns < self._map_tokens_until_ns else None
        asked = bucket = self.buckets[-1] if whole else self.chooser(count)
        if asked == STILL and count:  # it waits, and asks for what would hold it
            asked = smallest_holding(self._entries, count).name
        if not whole and STILL in self.buckets and self.session.waits:
            bucket = STILL
        if governor and bucket != STILL:
            bucket = governor.choose(
                asked, milliseconds(begun_ns, trunk_ns), milliseconds(start_ns, time.monotonic_ns())
            )
        bucket = self.session.bucket_of(bucket)
        chosen_ns = time.monotonic_ns()
        outputs = self.session.finish(bucket)
        end_ns = time.monotonic_ns()
        if governor and bucket == STILL:
            governor.ended()
        elif governor:
            governor.learn(bucket, milliseconds(chosen_ns, end_ns), milliseconds(start_ns, end_ns))
        tokens = self._tokens_of[bucket]
        facts = FrameFacts(
            frame=frame,
            asked=asked,
            bucket=bucket,
            tokens=tokens,
            token_share=tokens / self.all_tokens,
            fps=(before.frames + 1) / ((end_ns - (before.began_ns or start_ns)) / 1e9),
            start_ns=start_ns,
            end_ns=end_ns,
            fit_ms=milliseconds(fitted.start_ns, fitted.end_ns),
            trunk_ms=milliseconds(begun_ns, trunk_ns),
            choose_ms=milliseconds(trunk_ns, chosen_ns),
            tail_ms=milliseconds(chosen_ns, end_ns),
            remembered=self.session.remembered,
            token_map=TokenMap(self._first, scores_S, bucket) if self._first and scores_S is not None else None,
        )
        return self._task.result(facts, outputs)

    @property
    def shares(self) -> dict[str, float]:
        """Of the dense model's tokens that each bucket processes, by its name."""
        return {name: tokens / self.all_tokens for name, tokens in self._tokens_of.items()}

    @property
    def chosen_by(self) -> str:
        """What `chooser` is: a key of CHOOSERS, or the one bucket that all frames get."""
        return self._chosen_by

    def describe(self) -> dict[str, Any]:
        """How its graphs really run: engine, version, precision, threads."""
        return self.session.describe()

    def check(self) -> None:
        """Raises InputError where it does not answer as the bundle's references do."""
        refuse_disagreeing(self.session, self.bundle, self.session.describe()["precision"], self.buckets)
        self.session.reset()

    def map_tokens(self, seconds: float) -> bool:
        """From any thread: frames of the next so many seconds have a `token_map`. False where this bundle's have none."""
        if self._first is None:
            return False
        until_ns = time.monotonic_ns() + round(seconds * 1e9)
        self._map_tokens_until_ns = max(self._map_tokens_until_ns, until_ns)
        return True

    def close(self) -> None:
        """Gives back what the graphs took; twice is no error."""
        self.session.close()
