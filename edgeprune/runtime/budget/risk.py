"""Which risk of being late a frame may take, so that 6 in 1000 are late in the long run, whatever the machine does.

Most frames have time to spare, so that a rule which allows every frame such a risk gives away nearly all of it. What is
allowed to a single frame therefore grows until frames are late as often as they may, and is halved by each that is: adaptive
conformal inference (Gibbs and Candes, NeurIPS 2021, https://arxiv.org/abs/2106.00170, equation 2), on the logarithm.
"""

LATE = 0.006  # share of frames that may be late by their bucket's fault; a budget is to be held in 0.99
FIRST_RISK, LEAST_RISK, MOST_RISK = 0.008, 0.0025, 0.05
STAY = 4.0  # times the risk, in which a bucket that runs is kept: hysteresis


class Risk:
    """The probability of being late that the frame in hand may take. `learn` once for each frame."""

    def __init__(self) -> None:
        self.to_go_up = FIRST_RISK
        self._was_late = False

    @property
    def to_stay(self) -> float:
        """In a bucket that runs, or below; after a frame that was late no more than to go up."""
        return self.to_go_up if self._was_late else STAY * self.to_go_up

    def learn(self, late: bool) -> None:
        """Whether the frame was late by its bucket's fault: the smallest one would not have been."""
        self._was_late = late
        risk = self.to_go_up * (0.5 if late else 2**LATE)
        self.to_go_up = min(max(risk, LEAST_RISK), MOST_RISK)
