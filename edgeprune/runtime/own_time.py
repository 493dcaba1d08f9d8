"""What a loop takes for itself, frame by frame, whatever of it is done at a time."""

import time

from edgeprune.runtime.outputs import Outputs
from edgeprune.runtime.pipeline import Took
from edgeprune.runtime.row import DIGITS, Row, milliseconds
from edgeprune.runtime.tasks import FrameFacts, Result


class OwnTime:
    """Counts what is neither a stage of a frame nor waiting, of the loop's thread and of the outputs together."""

    def __init__(self, outputs: Outputs):
        self._outputs = outputs
        self._since_ns: int | None = None
        self._added_ms = 0.0
        self._outputs_ms = 0.0  # of theirs, what rows have already

    def before(self, took: Took, facts: FrameFacts) -> float:
        """From the labels of the last frame to those of this one, in milliseconds; of the first frame 0."""
        since_ns, self._since_ns = self._since_ns, facts.end_ns
        if since_ns is None:
            return 0.0
        stages_ms = facts.trunk_ms + facts.choose_ms + facts.tail_ms + (0.0 if took.ahead else facts.fit_ms)
        mine_ms = milliseconds(since_ns, facts.end_ns) - stages_ms - took.away_ms - self._added_ms
        outputs_ms = self._outputs.own_ms
        theirs_ms, self._outputs_ms = outputs_ms - self._outputs_ms, outputs_ms
        return round(max(0.0, mine_ms) + max(0.0, theirs_ms), DIGITS)

    def hand_over(self, result: Result, row: Row) -> None:
        """Adds a frame to the outputs, which count for themselves."""
        start_ns = time.monotonic_ns()
        self._outputs.add(result, row)
        self._added_ms = milliseconds(start_ns, time.monotonic_ns())
