"""A source that ends or fails on cue, a sink that does as it is told, a session that counts, and a meter."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgeprune.runtime.cameras.source import FrameSource, Picture
from edgeprune.runtime.engines import Session
from edgeprune.runtime.engines.bound import Outputs as Answers
from edgeprune.runtime.meters import Energy
from edgeprune.runtime.row import Row
from edgeprune.runtime.sinks import Sink
from edgeprune.runtime.tasks import Result
from tests import bundles

WAIT_S = 60.0  # for another thread, on a machine that is slow


class Scripted(FrameSource):
    """Frames with 0, 1, 2, ... bright cells; after the last it ends or raises."""

    def __init__(self, count: int, *, then: BaseException | None = None, live: bool = False, fps: float | None = None):
        super().__init__("scripted", live=live, fps=fps)
        self.count, self.then = count, then

    def one_pass(self) -> Iterator[Picture]:
        for index in range(self.count):
            yield Picture(scripted_frame(index))
        if self.then is not None:
            raise self.then


def scripted_frame(index: int) -> np.ndarray:
    return bundles.frame_with(index % (bundles.N + 1), seed=index)


class CountingMeter:
    """2 W on the rail IN and 1 W on CPU, which IN contains, for a run of 10 s whatever it took."""

    name = "counting"

    def __init__(self) -> None:
        self.started = self.stopped = 0

    def start(self) -> None:
        self.started += 1

    def watts(self) -> float:
        return 2.0

    def stop(self) -> Energy:
        self.stopped += 1
        return Energy("measured by a fake", {"IN": 20.0, "CPU": 10.0}, 20.0, ("IN",), 11, 10.0, 1.0)


class Log(Sink):
    """A sink that does as it is told, in place of the page; it is told of each frame."""

    def __init__(self, act: Callable[[Result, Row], Row | None]):
        self._act = act
        self.rows: list[Row] = []
        self.threads: set[str] = set()

    def add(self, result: Result, row: Row) -> Row:
        self.threads.add(threading.current_thread().name)
        row = self._act(result, row) or row
        self.rows.append(row)
        return row


class Steps:
    """A session that counts the frames that were begun and done, and may wait before one."""

    def __init__(self, session: Session, before: Callable[[int], object] = lambda index: None):
        self._session, self._before = session, before
        self.bucket_of, self.reset, self.remembered = session.bucket_of, session.reset, None
        self.begun = self.done = 0

    def start(self, frame_HW3: np.ndarray) -> int:
        self._before(self.begun)
        self.begun += 1
        return self._session.start(frame_HW3)

    def finish(self, bucket: str) -> Answers:
        found = self._session.finish(bucket)
        self.done += 1
        return found

    def describe(self) -> dict[str, Any]:
        return self._session.describe()


def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true, in time."""
    end_s = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.001)
    return condition()
