"""A source that ends or fails on cue, and a meter that counts."""

from collections.abc import Iterator

import numpy as np

from edgeprune.runtime.cameras.source import FrameSource, Picture
from edgeprune.runtime.meters import Energy
from tests import bundles


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
