"""The result of one frame, whatever the task.

Array shapes: label_HW (uint8 class ids), confidence_HW (uint8), picture_HW3 (uint8 RGB), all of the frame's own pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.engines.engine import UInt8
from edgeprune.runtime.first_decision import TokenMap
from edgeprune.runtime.remembered_tokens import RememberedTokens
from edgeprune.runtime.row import milliseconds
from edgeprune.runtime.tasks.things import Thing


@dataclass(frozen=True)
class FrameFacts:
    """How a frame went through the graphs.

    Attributes:
        frame: as the camera gave it.
        asked: the bucket that the frame asked for.
        bucket: the one that it got.
        tokens: processed, summed over the blocks.
        token_share: of those that the dense model processes.
        fps: frames per second since the first.
        start_ns, end_ns: frame in hand, labels in hand, by the monotonic clock.
        fit_ms, trunk_ms, choose_ms, tail_ms: the stages from start to end.
        remembered: where the frames before are remembered, what became of the grid's tokens.
        token_map: what the first decision made of the tokens, where somebody asked for it (`Stream.map_tokens`).
    """

    frame: Frame
    asked: str
    bucket: str
    tokens: int
    token_share: float
    fps: float
    start_ns: int
    end_ns: int
    fit_ms: float
    trunk_ms: float
    choose_ms: float
    tail_ms: float
    remembered: RememberedTokens | None = None
    token_map: TokenMap | None = None


class Result(ABC):
    """One frame and what was found in it. What sinks and callers want is made when they ask for it, not before.

    Attributes:
        facts: how it went.
    """

    facts: FrameFacts

    @property
    def frame(self) -> Frame:
        """The frame as the camera gave it."""
        return self.facts.frame

    @property
    def index(self) -> int:
        """The number of the frame in its source, from 0."""
        return self.facts.frame.index

    @property
    def name(self) -> str | None:
        """The name of the frame, where it has one: an image's file name."""
        return self.facts.frame.name

    @property
    def camera(self) -> str | None:
        """What its camera is called; None where a run has one alone."""
        return self.facts.frame.camera

    @property
    def bucket(self) -> str:
        """The bucket that the frame got."""
        return self.facts.bucket

    @property
    def latency_ms(self) -> float:
        """Frame in hand to labels in hand: fit, trunk, choose, tail. What is asked for later is not in it."""
        return milliseconds(self.facts.start_ns, self.facts.end_ns)

    @property
    def status(self) -> str:
        """`21.3 fps  18.1 ms  bucket 384 (52% of the tokens)`."""
        facts = self.facts
        return (
            f"{facts.fps:.1f} fps  {self.latency_ms:.1f} ms  bucket {facts.bucket} "
            f"({100 * facts.token_share:.0f}% of the tokens)"
        )

    @property
    @abstractmethod
    def labels(self) -> UInt8:
        """label_HW, class ids at the frame's own pixels; 255 outside the region that the bundle was built for."""

    @property
    def confidence(self) -> UInt8 | None:
        """confidence_HW, how sure the labels are at the frame's own pixels: 0 a tie of two classes, 255 certain; None where the
        bundle was built without."""
        return None

    @property
    def mean_confidence(self) -> float | None:
        """Of the frame's pixels, of a region those inside, 0 to 1; None where the bundle was built without."""
        return None

    @property
    @abstractmethod
    def palette(self) -> Sequence[tuple[int, int, int]]:
        """The colour of each class, RGB, by its id."""

    @abstractmethod
    def areas(self) -> dict[str, float]:
        """The share of the frame's pixels that each class has, 0 to 1, by its name, in the order of ids; of a region, of the
        pixels inside. Things that overlap count wherever they are: the sum may be more than 1."""

    @property
    def things(self) -> tuple[Thing, ...]:
        """What was found that can be counted, best score first, each with its class, box and mask; none of a task that finds no
        things."""
        return ()

    def counts(self) -> dict[str, int] | None:
        """How many things of each class there are, by its name: those alone of which there is one, in the order of ids; None of
        a task that finds no things."""
        return None

    def to_json(self, masks: bool = True) -> dict[str, Any]:
        """What a line of JSON says of the frame: the areas, and what else the task finds. `masks`: with the pixels of things,
        which are most of it."""
        return {"areas": {name: round(share, 5) for name, share in self.areas().items()}}

    @abstractmethod
    def overlay(self, tokens: bool = False, status: str | None = None) -> UInt8:
        """picture_HW3: the frame, what was found in it, a status line, a legend. `tokens`: with what the first decision made of
        its tokens, where the facts have it. `status`: another line than `self.status`."""
