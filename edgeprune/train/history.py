"""What a phase reports of itself while it trains: rows for its history, lines for its log.

Losses and masks stay on the device, where reading one would wait for every kernel before it, until a row or a state is due.

Shapes: P processes, G decisions of the policy.
"""

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from edgeprune.train.divergence import LossWatch

REPORT_S = 30.0  # between two rows, where no validation falls between them


@dataclass(frozen=True)
class Row:
    """One row of a phase's history.

    Attributes:
        step: steps done.
        loss: mean over the steps since the row before.
        keep: share of the tokens that the policy kept in the last step, mean over its decisions; None without any.
        lr: learning rate of the last step, before layers and the policy scale it.
        seconds: spent on the phase, those before it was resumed included.
        scores: of the validation that fell on this step, by the task's names.
    """

    step: int
    loss: float
    keep: float | None
    lr: float
    seconds: float
    scores: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, float]:
        """The row as `<phase>.json` has it."""
        keep = {} if self.keep is None else {"keep": self.keep}
        return {"step": self.step, "loss": self.loss, **keep, "lr": self.lr, "seconds": self.seconds, **self.scores}


class History:
    """Collects what steps give, and makes rows of it.

    Args:
        step: steps done when the phase began or went on.
        steps: of the whole phase.
        seconds: spent on the phase until then.
        watch: looks at every loss.
    """

    def __init__(self, step: int, steps: int, seconds: float, watch: LossWatch | None = None):
        self.first_step, self.step, self.steps = step, step, steps
        self.watch = watch or LossWatch()
        self._seconds_before = seconds
        self._began = self._reported = time.monotonic()
        self._losses: list[float] = []  # since the last row; what `read` has not seen yet lies in `_unread`
        self._unread: list[Tensor] = []
        self._keep_PG: Tensor | None = None

    @property
    def seconds(self) -> float:
        """Spent on the phase until now."""
        return self._seconds_before + time.monotonic() - self._began

    def add(self, loss_P: Tensor, keep_PG: Tensor) -> None:
        """One step is done. Nothing is read here."""
        self._unread.append(loss_P)
        self._keep_PG = keep_PG
        self.step += 1

    def is_due(self) -> bool:
        """Whether the last row is so long ago that somebody may be waiting for one."""
        return time.monotonic() - self._reported > REPORT_S

    def read(self) -> None:
        """Reads the losses of the steps since it was last called.

        Raises:
            FloatingPointError: one of them is not finite, or they diverge; see `LossWatch`.
        """
        if not self._unread:
            return
        losses = torch.stack(self._unread).mean(dim=1).tolist()
        first = self.step - len(losses) + 1
        self._unread = []
        self._losses += losses
        for step, loss in enumerate(losses, start=first):
            self.watch.add(loss, step)

    def row(self, lr: float, scores: dict[str, float]) -> Row:
        """The row of this moment; the next one begins.

        Raises:
            FloatingPointError: see `read`.
        """
        self.read()
        loss = sum(self._losses) / max(1, len(self._losses))
        shares = [] if self._keep_PG is None else self._keep_PG.mean(dim=0).tolist()
        self._losses = []
        self._reported = time.monotonic()
        return Row(self.step, loss, sum(shares) / len(shares) if shares else None, lr, self.seconds, scores)

    def line(self, row: Row) -> str:
        """A row for the log, with the pace and the time left."""
        pace = (time.monotonic() - self._began) / max(1, row.step - self.first_step)
        keep = "" if row.keep is None else f", keep {row.keep:.2f}"
        scores = "".join(f", {name} {value:.4f}" for name, value in row.scores.items())
        return (
            f"step {row.step}/{self.steps}, loss {row.loss:.3f}{keep}, {pace:.2f} s a step, "
            f"{pace * (self.steps - row.step) / 60:.0f} min left{scores}"
        )
