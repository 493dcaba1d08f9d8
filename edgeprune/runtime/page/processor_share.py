"""The bound on what the page takes of the machine: a share of one core, whoever asks for how much.

An asyncio loop waits in its selector between two rounds of work. This one measures the processor time of each round, and
before the next it sleeps off what is more than the share. So pictures, figures, and a flood of requests come out of one
budget: viewers get fewer pictures, and the camera loop keeps its time.
"""

import selectors
import threading
import time
from collections.abc import Callable
from typing import Any

BURST_S = 0.03  # of processor time, which may come at once after a rest


class BoundedSelector(selectors.DefaultSelector):
    """A selector for `asyncio.SelectorEventLoop`.

    Args:
        share: of one core, 0 to 1.
        clock: seconds.
        spent: processor time of the calling thread, in seconds.
        sleep: waits so many seconds; by default until `hurry`, at most.
    """

    def __init__(
        self,
        share: float,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], object] | None = None,
    ):
        super().__init__()
        self._hurried = threading.Event()
        self._share, self._clock, self._spent, self._sleep = share, clock, spent, sleep or self._hurried.wait
        self._credit_s = BURST_S
        self._at_s: float | None = None  # when the credit was last reckoned
        self._spent_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Waits as any selector, after what is owed."""
        self._reckon()
        if self._credit_s < 0 and not self._hurried.is_set():
            owed_s = -self._credit_s / self._share
            self._sleep(owed_s)
            timeout = 0 if timeout is None else max(0.0, timeout - owed_s)
        return super().select(timeout)

    def hurry(self) -> None:
        """From here on nothing is slept off, for the end has come; from any thread."""
        self._hurried.set()

    def _reckon(self) -> None:
        """Credit grows with time and is spent by work."""
        now_s, spent_s = self._clock(), self._spent()
        if self._at_s is not None:
            gained_s = (now_s - self._at_s) * self._share - (spent_s - self._spent_s)
            self._credit_s = min(BURST_S, self._credit_s + gained_s)
        self._at_s, self._spent_s = now_s, spent_s
