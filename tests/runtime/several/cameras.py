"""Simulated cameras: some frames a second, for so long; one may hang, or fail."""

import threading
import time
from collections.abc import Iterator

from edgeprune.runtime.cameras.source import FrameSource, Picture
from tests.runtime.loop.fakes import scripted_frame


class Simulated(FrameSource):
    """A live camera.

    Args:
        fps: frames a second; None: as fast as they are taken, by a file that is none.
        count: frames until it ends; None: never.
        then: raised behind the last one.
        hangs_after: frames after which it gives none, until `closed`.
    """

    def __init__(
        self,
        name: str,
        fps: float | None,
        count: int | None = None,
        then: BaseException | None = None,
        hangs_after: int | None = None,
    ):
        super().__init__(name, live=fps is not None, fps=fps)
        self.count, self.then, self.hangs_after = count, then, hangs_after
        self.closed = threading.Event()
        self.given = 0

    def one_pass(self) -> Iterator[Picture]:
        began_s = time.monotonic()
        while self.count is None or self.given < self.count:
            if self.given == self.hangs_after:
                self.closed.wait(30)
            if self.fps:
                self.closed.wait(max(0.0, began_s + self.given / self.fps - time.monotonic()))
            if self.closed.is_set():
                return
            self.given += 1
            yield Picture(scripted_frame(self.given))
        if self.then is not None:
            raise self.then
