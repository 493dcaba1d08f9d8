"""Clips through a bundle's ways of labelling them: its memory, each frame by itself, the dense network in FP32; and labels that
are repeated.

Shapes: H W pixels of the input, h w of a label map.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median
from time import perf_counter
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.bundle.references import LABELS
from edgeprune.data.nearest import resize_nearest
from edgeprune.data.samples import UInt8
from edgeprune.lab.remembered.clips import Clip
from edgeprune.lab.through_time.scores import DENSE, REPEATED, Judged
from edgeprune.runtime.choose import NEXT_FRAME
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.engines.engine import Graph
from edgeprune.runtime.engines.memory_session import MemorySession
from edgeprune.runtime.opening import open as open_stream
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.tasks import FrameFacts

ALONE, REMEMBERED = "each frame by itself", "remembered"
WAITING = f"remembered, --chooser {NEXT_FRAME}"


Answer = TypeVar("Answer")


@dataclass
class WayOf(Generic[Answer]):
    """What one way made of the frames.

    Attributes:
        answers: what was found in each.
        ms: of each frame.
        tokens: computed for it, as a share of the dense network's.
    """

    answers: list[Answer] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    tokens: list[float] = field(default_factory=list)

    def add(self, answer: Answer, ms: float, tokens: float) -> None:
        self.answers.append(answer)
        self.ms.append(ms)
        self.tokens.append(tokens)

    @property
    def mean_ms(self) -> float:
        """Of all frames after the first."""
        return fmean(self.ms[1:])

    @property
    def p50_ms(self) -> float:
        """Likewise."""
        return median(self.ms[1:])

    @property
    def mean_tokens(self) -> float:
        """Likewise."""
        return fmean(self.tokens[1:])


Way = WayOf[UInt8]  # labels (H, W)


class Opened(NamedTuple):
    """The graphs of a bundle: of the dense network, and streams by what their way is called."""

    dense: Graph
    streams: dict[str, Stream]


@contextmanager
def open_ways(bundle: Bundle, engine: str, threads: int) -> Iterator[Opened]:
    """Opens the graphs of all ways.

    Raises:
        InputError: the engine leaves the memory out on this machine.
    """
    options: dict[str, Any] = {"engine": engine, "threads": threads}
    with ExitStack() as held:
        dense = held.enter_context(closing(ENGINES[engine].open_graph(bundle.path(bundle.manifest.dense), threads)))
        streams = {
            ALONE: held.enter_context(open_stream(bundle.folder, chooser="in-frame", **options)),
            REMEMBERED: held.enter_context(open_stream(bundle.folder, **options)),
            WAITING: held.enter_context(open_stream(bundle.folder, chooser=NEXT_FRAME, **options)),
        }
        if not all(isinstance(streams[way].session, MemorySession) for way in (REMEMBERED, WAITING)):
            raise InputError(
                f"{engine} leaves the memory of {bundle.folder} out on this machine: its smallest tail takes as long as a "
                "frame by itself; name another --engine"
            )
        yield Opened(dense, streams)


def ask(opened: Opened, clips: Sequence[Clip]) -> tuple[Judged, dict[str, Way]]:
    """Every frame through every way."""
    ways, frames = {name: Way() for name in (DENSE, *opened.streams)}, Judged()
    for clip in clips:
        frames.begins.add(len(frames.dense))
        frames.true.extend(clip.true)
        frames.pictures.extend(clip.pictures)
        for image_HW3 in clip.images:
            began_s = perf_counter()
            labels_hw = opened.dense(image_HW3)[LABELS]
            took_ms = 1000 * (perf_counter() - began_s)
            dense_HW = resize_nearest(labels_hw, *image_HW3.shape[:2]).astype(np.uint8)
            ways[DENSE].add(dense_HW, took_ms, 1.0)
            frames.dense.append(dense_HW)
            for name, stream in opened.streams.items():
                ways[name].add(*segment(stream, image_HW3))
    return frames, ways


def segment(stream: Stream, image_HW3: UInt8) -> tuple[UInt8, float, float]:
    """Labels of a frame (H, W), what the graphs took in milliseconds, and the share of the tokens that they computed."""
    result = stream.segment(image_HW3)
    return np.array(result.labels, np.uint8), graphs_ms(result.facts), result.facts.token_share


def graphs_ms(facts: FrameFacts) -> float:
    """What the graphs took for a frame, without fitting it."""
    return facts.trunk_ms + facts.choose_ms + facts.tail_ms


def repeat(
    begins: Collection[int], ways: Mapping[str, WayOf[Answer]], beside: str = REMEMBERED
) -> tuple[str, WayOf[Answer]]:
    """Answers of every so many frames by themselves, repeated, and what that is called.

    Args:
        begins: the frames that begin a clip.
        beside: the way that takes as long.
    """
    alone, repeated = ways[ALONE], WayOf[Answer]()
    frames = len(alone.answers)
    every = shortened(begins, frames, round(alone.mean_ms / ways[beside].mean_ms))
    for at, labelled in enumerate(last_labelled(begins, frames, every)):
        spent = at == labelled
        repeated.add(alone.answers[labelled], alone.ms[at] if spent else 0.0, alone.tokens[at] if spent else 0.0)
    return f"{REPEATED}, each {every} times", repeated


def shortened(begins: Collection[int], frames: int, every: int) -> int:
    """How many frames share labels: two or more, and fewer than the longest clip has, or no frame after its first would be
    labelled."""
    longest = max(end - begin for begin, end in pairwise([*sorted(begins), frames]))
    return min(max(2, every), longest - 1)


def last_labelled(begins: Collection[int], frames: int, every: int) -> list[int]:
    """For each frame which one was labelled last: the first of each clip is, and every so many of it after that."""
    found, begin = [], 0
    for at in range(frames):
        begin = at if at in begins else begin
        found.append(at - (at - begin) % every)
    return found
