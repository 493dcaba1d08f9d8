"""A camera through a bundle, frame by frame: what `edgeprune.open` gives. `run` goes through the same `Stream`."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeprune.base.ending import ending
from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.runtime.budget.governor import Governor
from edgeprune.runtime.budget.wanted import Budget
from edgeprune.runtime.cameras.capture import Capture
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.choose import Chooser
from edgeprune.runtime.engines import Session
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.renewal import Renewal, Renewals
from edgeprune.runtime.row import milliseconds
from edgeprune.runtime.running import Counted, Fitted, Running
from edgeprune.runtime.tasks import Result


class Stream:
    """The frames of a camera, or of a caller's own, and what a bundle's graphs find in each.

    An iterator of results that ends with the camera, and a context manager. What it took it gives back at the end of the
    camera, with an error, and in `close()`. One thread at a time.

    Attributes:
        capture: of the camera; None where frames come by `segment` alone.
        names: of the classes, by their ids.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        chooser: Chooser,
        capture: Capture | None = None,
        governor: Governor | None = None,
    ):
        self.capture = capture
        self.names = list(bundle.manifest.names)
        self._running = Running(bundle, session, chooser, governor)
        self._renewal: Renewal | None = None
        self._frames = self._dense_tokens = 0
        self._began_ns = self._ended_ns = 0
        self._closed = False

    @classmethod
    def of(cls, running: Running, capture: Capture | None, renewal: Renewal | None = None) -> "Stream":
        """A stream of graphs that are at work. `renewal`: what may put others in their place."""
        stream = cls(running.bundle, running.session, running.chooser, capture, running.governor)
        stream._running, stream._renewal = running, renewal
        return stream

    @property
    def bundle(self) -> Bundle:
        """What runs now."""
        return self._running.bundle

    @property
    def session(self) -> Session:
        """Its graphs, opened, and so warmed up."""
        return self._running.session

    @property
    def all_tokens(self) -> int:
        """What the dense model of what runs now processes in a frame, summed over the blocks."""
        return self._running.all_tokens

    def describe(self) -> dict[str, Any]:
        """How the graphs of what runs now really run."""
        return self._running.describe()

    @property
    def shares(self) -> dict[str, float]:
        """Of the dense model's tokens that each bucket of what runs now processes, by its name."""
        return self._running.shares

    def token_share(self, tokens_mean: float | None) -> float | None:
        """What of the dense model's tokens a mean of all frames until now is; of several bundles each counts by its frames."""
        return None if tokens_mean is None else tokens_mean * self._frames / self._dense_tokens

    @property
    def chosen_by(self) -> str:
        """What chooses the buckets of what runs now: a key of CHOOSERS, or the one that all frames get."""
        return self._running.chosen_by

    @property
    def budget(self) -> Budget | None:
        """What it holds, or None."""
        return self._running.governor.budget if self._running.governor else None

    @property
    def renewals(self) -> Renewals | None:
        """What became of new bundles; None where none are looked for."""
        return self._renewal.renewals if self._renewal else None

    def know_idle(self, watts: float | None) -> None:
        """What the machine takes when idle, where it was measured: a budget of power leaves less room unused then."""
        if self._running.governor and watts is not None:
            self._running.governor.idle_w = watts

    def map_tokens(self, seconds: float) -> bool:
        """From any thread: frames of the next so many seconds say what the first decision made of their tokens
        (`result.facts.token_map`); whoever wants more asks again. False where this bundle's have nothing to say."""
        return self._running.map_tokens(seconds)

    @property
    def dropped(self) -> int:
        """Frames of a live camera that were replaced by newer ones before anybody took them."""
        return self.capture.dropped if self.capture else 0

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        """The next frame's result.

        Raises:
            StopIteration: the camera's end.
            InputError, RunError: the camera fails (`CameraStalled`, `CameraUnplugged`, ...), or there is none.
        """
        if self.capture is None:
            raise InputError("this stream has no camera; open it with camera=..., or give frames to segment()")
        try:
            got = self.take()
            if got is None:
                raise StopIteration
            return self.process(got[0])
        except BaseException:
            self.close()
            raise

    def take(
        self, until_ns: int | None = None, idle_ms: float = 0.0, beside_ms: float = 0.0
    ) -> tuple[Frame, int] | None:
        """The camera's next frame, and how many were dropped before it; None at its end, and at `until_ns` by the monotonic
        clock. A budget of a rate counts what was done since the last frame, not what is waited here. Raises as `__next__`.

        Args:
            idle_ms: of the time since the last frame, in which nothing was done for want of a place (`pipeline.py`).
            beside_ms: what is done with a result beside the graphs.
        """
        assert self.capture is not None
        self.notice_work(idle_ms, beside_ms)
        return self.capture.get(self.patience_s, until_ns)

    def notice_work(self, idle_ms: float = 0.0, beside_ms: float = 0.0) -> None:
        """What was done since the last frame was work on it; from here on the next is waited for. Arguments as of `take`."""
        if self._running.governor and self._ended_ns:
            work_ms = milliseconds(self._ended_ns, time.monotonic_ns()) - idle_ms
            self._running.governor.between(work_ms, beside_ms)

    @property
    def patience_s(self) -> float | None:
        """How long a frame is waited for before the camera counts as stalled; None: however long."""
        return self.capture.patience_s if self.capture else None

    def segment(self, image_HW3: UInt8, name: str | None = None) -> Result:
        """The result of a frame of the caller's own: of a ROS topic, of OpenCV (`image[..., ::-1]`, which is BGR).

        Args:
            image_HW3: uint8 RGB, any size, upright.
            name: what it is called in the result.

        Raises:
            InputError: it isn't such an image.
        """
        image_HW3 = np.asarray(image_HW3)
        if image_HW3.dtype != np.uint8 or image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or not image_HW3.size:
            raise InputError(
                f"a frame of {image_HW3.dtype} {image_HW3.shape} was given; uint8 (height, width, 3), RGB, is expected"
            )
        return self.process(Frame(time.monotonic_ns(), image_HW3, self._frames, name))

    def fit(self, frame: Frame) -> Fitted:
        """The frame at the size that the graphs take now, for `process`; in any thread."""
        return self._running.fit(frame)

    def process(self, frame: Frame, ahead: Fitted | None = None, before: Counted | None = None) -> Result:
        """One frame: fit, trunk, choose, tail.

        Args:
            ahead: what `fit` made of it before.
            before: what its camera's frames before it were, where the stream has those of several.

        Raises:
            InputError: the stream is closed.
        """
        if self._closed:
            raise InputError("this stream is closed, as it is when its camera ends; open another")
        before = before or Counted(self._frames, self._began_ns)
        if self._renewal:
            self._running, result = self._renewal.process(self._running, frame, before, ahead)
        else:
            result = self._running.process(frame, before, ahead)
        self._ended_ns = result.facts.end_ns
        self._frames += 1
        self._dense_tokens += self._running.all_tokens
        self._began_ns = self._began_ns or result.facts.start_ns
        return result

    def close(self) -> None:
        """Gives back the camera and what the graphs took; twice is no error."""
        with ending():
            self._closed = True
            try:
                if self.capture:
                    self.capture.close()
            finally:
                if self._renewal:
                    self._renewal.close()
                self._running.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
