"""`show` of a bundle: which tokens its graphs compute, frame by frame, as a run computes them. Nothing here needs torch."""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.runtime.cameras import Frame, FrameSource
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.first_decision import FirstDecision
from edgeprune.runtime.opening import StreamOptions, open_stream
from edgeprune.runtime.remembered_tokens import MemoryFigures, MemorySums
from edgeprune.runtime.tasks.tokens_beside import TokensBeside

logger = logging.getLogger(__name__)

ASKED_S = 60.0  # for which a stream is asked for tokens, anew for each frame


class Beside(NamedTuple):
    """picture_HW3 (uint8 RGB) of a frame, and the share of the dense model's tokens over blocks."""

    picture_HW3: UInt8
    share: float


class BundlePainter:
    """Which tokens the graphs of a bundle compute in frames, as a run computes them.

    Attributes:
        policy: the name of that of frames that are computed by themselves.

    Raises:
        InputError: there is nothing to see; as `open_stream`.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.policy, self._remembers = bundle.manifest.policy, bundle.manifest.memory is not None
        if not self._remembers and FirstDecision.of(bundle.manifest) is None:
            region = ", of a region" if bundle.manifest.region else ""
            raise InputError(
                f"no graph of {bundle.folder} (policy {self.policy}{region}) says what it does with tokens; "
                "name its checkpoint, or a bundle of `edgeprune build --memory`"
            )
        self._stream = open_stream(bundle, None, StreamOptions())
        self._beside, self._sums = TokensBeside(bundle.manifest), MemorySums()

    @property
    def memory(self) -> MemoryFigures | None:
        """Of the frames that were drawn."""
        return self._sums.figures()

    def shown(self, source: FrameSource, skip: int) -> Iterator[Frame]:
        """The frames of a source but for the first, which a memory has to have seen."""
        for frame in source:
            if frame.index >= skip:
                yield frame
            elif self._remembers:
                self._stream.process(frame)
                if frame.index and frame.index % 100 == 0:
                    logger.info(f"{frame.index} of {skip} frames before")

    def beside(self, frame: Frame) -> Beside:
        """What is found in the next frame, beside its tokens."""
        self._stream.map_tokens(ASKED_S)
        result = self._stream.process(frame)
        if result.facts.remembered:
            self._sums.add(result.facts.remembered)
        return Beside(self._beside.draw(result), result.facts.token_share)

    picture = beside

    def close(self) -> None:
        """Gives back what the graphs took."""
        self._stream.close()
