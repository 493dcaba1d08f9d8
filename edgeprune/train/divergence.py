"""When a phase has gone wrong: its loss is no number, or far above its past.

A running loss counts as diverged at four times its lowest value so far, the rule by which the learning-rate finders of fastai
and Lightning stop, where it is also above what it was at the beginning of the phase: of a loss near zero four times as much
means nothing.
"""

from dataclasses import dataclass
from math import isfinite

WINDOW = 20  # steps that the running loss looks back
LIMIT = 4.0  # times its lowest value


@dataclass
class LossWatch:
    """The running loss of a phase, of which a state keeps the four numbers.

    Attributes:
        steps: seen so far.
        running: the mean of the first WINDOW losses, then an exponential mean over as many.
        first: the running loss after WINDOW steps.
        lowest: of the running loss since then.
    """

    steps: int = 0
    running: float = 0.0
    first: float = 0.0
    lowest: float = 0.0

    def add(self, loss: float, step: int) -> None:
        """Looks at the loss of a step.

        Raises:
            FloatingPointError: it is not finite, or the running loss has diverged; says which, and at which step.
        """
        if not isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {step}")
        self.steps += 1
        self.running += (loss - self.running) / min(self.steps, WINDOW)
        if self.steps == WINDOW:
            self.first = self.lowest = self.running
        if self.steps <= WINDOW:
            return
        if self.running > max(self.first, LIMIT * self.lowest):
            raise FloatingPointError(
                f"the loss has diverged: {self.running:.3g} over the last {WINDOW} steps at step {step}, {self.lowest:.3g} at "
                "its lowest"
            )
        self.lowest = min(self.lowest, self.running)
