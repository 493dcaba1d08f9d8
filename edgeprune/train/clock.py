"""Time spent, time left, and when to print and to save."""

import time

from edgeprune.train.progress import Progress


class Clock:
    """Of one phase; `progress` counts on from where a resumed phase stood."""

    def __init__(self, progress: Progress, steps: int):
        self.progress, self.steps = progress, steps
        self.first_step, self.before = progress.step, progress.seconds
        self.begin = self.last_report = self.last_save = time.monotonic()
        self.losses: list[float] = []
        self.keep: float | None = None

    def tick(self, loss: float, keep: float | None) -> None:
        """One step is done."""
        self.losses.append(loss)
        self.keep = keep
        self.progress.seconds = self.before + time.monotonic() - self.begin

    def report_due(self) -> bool:
        return time.monotonic() - self.last_report > 30

    def save_due(self, seconds: float) -> bool:
        due = time.monotonic() - self.last_save > seconds
        if due:
            self.last_save = time.monotonic()
        return due

    def line(self) -> str:
        """Step, mean loss since the last line, kept share, pace and time left."""
        done = self.progress.step - self.first_step
        pace = (time.monotonic() - self.begin) / max(1, done)
        left = pace * (self.steps - self.progress.step)
        keep = "" if self.keep is None else f", keep {self.keep:.2f}"
        return (
            f"step {self.progress.step}/{self.steps}, loss {sum(self.losses) / max(1, len(self.losses)):.3f}{keep}, "
            f"{pace:.2f} s a step, {left / 60:.0f} min left"
        )

    def row(self, line: str) -> dict[str, float]:
        """The same for the history; starts a new interval."""
        row = {"step": self.progress.step, "loss": sum(self.losses) / max(1, len(self.losses))}
        if self.keep is not None:
            row["keep"] = self.keep
        if ", mIoU " in line:
            row["miou"] = float(line.rsplit(" ", 1)[1])
        self.losses = []
        self.last_report = time.monotonic()
        return row
