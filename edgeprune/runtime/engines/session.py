"""What a frame is made of in every engine: a trunk, the tail of a bucket on its state, an answer; or a single graph.

Array shapes: frame_HW3 (uint8 RGB at the bundle's input size).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import Bundle
from edgeprune.runtime.engines.bound import COUNT, FRAME, Array, Bound, Outputs, UInt8, answers, scores_of
from edgeprune.runtime.remembered_tokens import RememberedTokens

# a graph's file, threads, and the outputs of the graph whose state it reads -> the graph, opened
Bind = Callable[[Path, int, Mapping[str, Any] | None], Bound]
# The first run allocates its memory; two more let caches and clocks settle.
WARM_UP_RUNS = 3


class Session:
    """The graphs of one precision, opened and warmed up. A frame is `start()` and then `finish()`, in one thread. Tails
    read the tensors of the trunk where they lie.

    A bundle of the dense policy has one bucket whose graph runs in `start()`; `finish()` hands its outputs out.

    Attributes:
        remembered: what became of the tokens of the last frame; None of frames by themselves.
        waits: whether what changed in the last frame that was begun may wait for the next; never of frames by themselves.
    """

    remembered: RememberedTokens | None = None
    waits = False

    def __init__(self, bind: Bind, bundle: Bundle, precision: str, buckets: Sequence[str] | None, threads: int):
        graphs = bundle.graphs(precision)
        opened = [bundle.bucket(name).name for name in buckets] if buckets is not None else list(graphs.tails)
        paths = {name: bundle.path(choose(graphs.tails, name, "bucket")) for name in opened} if graphs.tails else {}
        self._precision, self._threads = precision, threads
        self._tokens = bundle.manifest.most_tokens
        with ExitStack() as held:  # what fails half-way leaves nothing open
            self._trunk = _open(held, bind, bundle.path(graphs.trunk), threads)
            self._tails = {name: _open(held, bind, path, threads, self._trunk.outputs) for name, path in paths.items()}
            if not graphs.tails:  # nothing is gated: the trunk is the whole network
                self._tails[bundle.manifest.buckets[-1].name] = self._trunk
            grey_HW3 = grey_frame(self._trunk)
            for _ in range(WARM_UP_RUNS):
                self.start(grey_HW3)
                for name in self._tails:
                    self.finish(name)
            self._held = held.pop_all()

    def start(self, frame_HW3: UInt8) -> int:
        """Runs the trunk; its state stays where the engine keeps it.

        Returns:
            How many tokens are over the threshold; all of them where nothing is gated.
        """
        self._trunk.run({FRAME: frame_HW3})
        return int(self._trunk.read(COUNT)) if COUNT in self._trunk.outputs else self._tokens

    def scores(self) -> Array | None:
        """A copy of the scores that the last `start()` left for the tails, in the policy's own layout; None where nothing is
        gated. It is made on demand, and waits for the device."""
        name = scores_of(self._trunk.outputs)
        return None if name is None else self._trunk.read(name)

    def finish(self, bucket: str) -> Outputs:
        """Runs the tail of a bucket on the state of the last `start()`; any number of buckets in turn.

        Raises:
            InputError: the bucket isn't in the bundle, or wasn't opened; the message lists those that were.
        """
        tail = choose(self._tails, bucket, "bucket")
        if tail is not self._trunk:
            tail.run({})
        return read_answer(tail)

    def bucket_of(self, chosen: str) -> str:
        """The bucket that this frame gets where that one was chosen: another where what a frame before should have left is not
        there."""
        return chosen

    def reset(self) -> None:
        """Forgets the frames before; there is nothing to forget where nothing is kept between frames."""

    def describe(self) -> dict[str, Any]:
        """`engine`, `version`, `provider` (the one that really ran), `provider_asked`, `precision`, `threads`,
        `thread_policy`, and `warm_up` (runs of each graph before the first frame)."""
        return describe_graph(self._trunk, self._threads) | {"precision": self._precision}

    def close(self) -> None:
        """Gives back everything that was taken to open it; a closed session can't be used again, closing twice is no error."""
        self._tails.clear()
        self._held.close()


class Graph:
    """A single graph, frame -> outputs, opened and warmed up: the dense reference, or the stem with the head."""

    def __init__(self, bind: Bind, path: Path, threads: int):
        if not path.is_file():
            raise InputError(f"graph {path} is not there; build it with `edgeprune build --precision fp32`")
        self._path, self._threads = path, threads
        with ExitStack() as held:
            self._bound = _open(held, bind, path, threads)
            if not answers(self._bound.outputs):
                raise _not_of_a_frame(path, self._bound)
            grey_HW3 = grey_frame(self._bound)
            for _ in range(WARM_UP_RUNS):
                self(grey_HW3)
            self._held = held.pop_all()

    def __call__(self, frame_HW3: UInt8) -> Outputs:
        """What it answers to a frame."""
        expected = self._bound.inputs[FRAME].shape
        if frame_HW3.shape != expected:
            raise InputError(
                f"graph {self._path} takes frames of {expected[0]}x{expected[1]}, not "
                f"{frame_HW3.shape[0]}x{frame_HW3.shape[1]}; export it at the bundle's input size"
            )
        self._bound.run({FRAME: frame_HW3})
        return read_answer(self._bound)

    def describe(self) -> dict[str, Any]:
        """What `Session.describe` gives, without the precision."""
        return describe_graph(self._bound, self._threads)

    def close(self) -> None:
        """Gives back everything, as `Session.close` does."""
        self._held.close()


def describe_graph(bound: Bound, threads: int) -> dict[str, Any]:
    warm_up = f"{WARM_UP_RUNS} runs of each graph before the first frame"
    return bound.describe() | {"threads": threads, "warm_up": warm_up}


def _open(held: ExitStack, bind: Bind, path: Path, threads: int, state: Mapping[str, Any] | None = None) -> Bound:
    """A graph that is closed with `held`; without a state it takes a frame, and nothing else.

    Raises:
        InputError: as `Engine.bind`, or it takes something else.
    """
    bound = bind(path, threads, state)
    held.callback(bound.close)
    shapes = {name: each.shape for name, each in bound.inputs.items()}
    if state is None and (list(shapes) != [FRAME] or len(shapes[FRAME]) != 3):
        raise _not_of_a_frame(path, bound)
    return bound


def _not_of_a_frame(path: Path, bound: Bound) -> InputError:
    shapes = {name: each.shape for name, each in bound.inputs.items()}
    return InputError(
        f"graph {path} does not turn a {FRAME!r} (H, W, 3) into an answer: it has inputs {shapes} and outputs "
        f"{', '.join(bound.outputs)}; export it with those names"
    )


def read_answer(bound: Bound) -> Outputs:
    """Ids are bytes; plans of Torch-TensorRT give them in INT32."""
    found = {name: bound.read(name) for name in answers(bound.outputs)}
    return {
        name: array.astype(np.uint8, copy=False) if array.dtype == np.int32 else array for name, array in found.items()
    }


def grey_frame(bound: Bound) -> UInt8:
    return np.full(bound.inputs[FRAME].shape, 128, np.uint8)
