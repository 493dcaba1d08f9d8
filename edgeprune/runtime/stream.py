"""A camera through a bundle, frame by frame: what `edgeprune.open` gives. `run` goes through the same `Stream`."""

import time
from collections.abc import Iterator

import numpy as np

from edgeprune.base.ending import ending
from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.data.preprocess import Preprocess
from edgeprune.runtime.budget.governor import Governor
from edgeprune.runtime.budget.wanted import Budget
from edgeprune.runtime.cameras.capture import Capture
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.choose import Chooser
from edgeprune.runtime.engines import Session
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.row import milliseconds
from edgeprune.runtime.tasks import FrameFacts, Result, open_task


class Stream:
    """The frames of a camera, or of a caller's own, and what a bundle's graphs find in each.

    An iterator of results that ends with the camera, and a context manager. What it took it gives back at the end of the
    camera, with an error, and in `close()`. One thread at a time.

    Attributes:
        bundle: what `session` was opened from.
        session: opened, and so warmed up.
        capture: of the camera; None where frames come by `segment` alone.
        names: of the classes, by their ids.
        all_tokens: what the dense model processes in a frame, summed over the blocks.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        chooser: Chooser,
        capture: Capture | None = None,
        governor: Governor | None = None,
    ):
        self.bundle, self.session, self.capture = bundle, session, capture
        self.names = list(bundle.manifest.names)
        self._governor = governor
        self._chooser, self._fit, self._task = chooser, Preprocess.of(bundle.manifest), open_task(bundle.manifest)
        self._tokens_of = {bucket.name: bucket.token_layers for bucket in bundle.manifest.buckets}
        self.all_tokens = bundle.manifest.depth * bundle.manifest.tokens
        self._frames = 0
        self._began_ns = self._ended_ns = 0
        self._closed = False

    @property
    def budget(self) -> Budget | None:
        """What it holds, or None."""
        return self._governor.budget if self._governor else None

    def know_idle(self, watts: float | None) -> None:
        """What the machine takes when idle, where it was measured: a budget of power leaves less room unused then."""
        if self._governor and watts is not None:
            self._governor.idle_w = watts

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

    def take(self, until_ns: int | None = None) -> tuple[Frame, int] | None:
        """The camera's next frame, and how many were dropped before it; None at its end, and at `until_ns` by the monotonic
        clock. A budget of a rate counts what was done since the last frame, not what is waited here. Raises as `__next__`."""
        assert self.capture is not None
        if self._governor and self._ended_ns:
            self._governor.between(milliseconds(self._ended_ns, time.monotonic_ns()))
        return self.capture.get(self.patience_s, until_ns)

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

    def process(self, frame: Frame) -> Result:
        """One frame: fit, trunk, choose, tail.

        Raises:
            InputError: the stream is closed.
        """
        if self._closed:
            raise InputError("this stream is closed, as it is when its camera ends; open another")
        start_ns = time.monotonic_ns()
        fitted_HW3 = self._fit.fit(frame.image_HW3)
        fitted_ns = time.monotonic_ns()
        count = self.session.start(fitted_HW3)
        trunk_ns = time.monotonic_ns()
        asked = bucket = self._chooser(count)
        if self._governor:
            bucket = self._governor.choose(
                asked, milliseconds(fitted_ns, trunk_ns), milliseconds(start_ns, time.monotonic_ns())
            )
        chosen_ns = time.monotonic_ns()
        outputs = self.session.finish(bucket)
        end_ns = self._ended_ns = time.monotonic_ns()
        if self._governor:
            self._governor.learn(bucket, milliseconds(chosen_ns, end_ns), milliseconds(start_ns, end_ns))
        self._frames += 1
        self._began_ns = self._began_ns or start_ns
        tokens = self._tokens_of[bucket]
        facts = FrameFacts(
            frame=frame,
            asked=asked,
            bucket=bucket,
            tokens=tokens,
            token_share=tokens / self.all_tokens,
            fps=self._frames / ((end_ns - self._began_ns) / 1e9),
            start_ns=start_ns,
            end_ns=end_ns,
            fit_ms=milliseconds(start_ns, fitted_ns),
            trunk_ms=milliseconds(fitted_ns, trunk_ns),
            choose_ms=milliseconds(trunk_ns, chosen_ns),
            tail_ms=milliseconds(chosen_ns, end_ns),
        )
        return self._task.result(facts, outputs)

    def close(self) -> None:
        """Gives back the camera and what the graphs took; twice is no error."""
        with ending():
            self._closed = True
            try:
                if self.capture:
                    self.capture.close()
            finally:
                self.session.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
