"""Sessions of engines that tie a graph once to the tensors it reads and writes, so that running it copies nothing.

An engine of this kind is a `BoundEngine` that says how to `bind` a file; what a frame is made of stands here once.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgeprune.base.errors import EdgepruneError, InputError, choose
from edgeprune.bundle import Bundle
from edgeprune.runtime.engines.engine import Outputs, UInt8
from edgeprune.runtime.engines.memory import free_host_bytes, lacks_memory, no_memory

FRAME, COUNT = "frame", "count"
# The first run allocates its memory; two more let caches and clocks settle.
WARM_UP_RUNS = 3


def import_library(module: str, called: str, install: str) -> Any:
    """The library behind an engine.

    Raises:
        InputError: it can't be imported here; `install` is what to type.
        RunError: there is no memory for it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if lacks_memory(error):
            raise no_memory(f"{called} can't be loaded", free=free_host_bytes()) from error
        raise InputError(f"this engine needs {called}, which cannot be imported ({error}); {install}") from error


class Bound(Protocol):
    """A graph and its tensors."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The engine's own tensor of every output, by name: another graph can be bound to them."""

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(H, W, 3) of the input `frame`."""

    def run(self, frame_HW3: UInt8 | None = None) -> None:
        """Runs the graph; `outputs` hold the result until the next run."""

    def read(self, name: str) -> np.ndarray:
        """A copy of an output."""

    def describe(self) -> dict[str, Any]:
        """`engine`, `version`, `provider`, `provider_asked`, `thread_policy`: see `Session.describe`."""

    def close(self) -> None:
        """Gives back what it took; raises nothing, twice is no error."""


class BoundEngine(ABC):
    """Base of such engines; fulfils `Engine`."""

    takes_threads = True

    @abstractmethod
    def bind(self, path: Path, threads: int, state: Mapping[str, Any] | None = None) -> Bound:
        """Opens a graph's file; inputs other than `frame` are read from `state`, another graph's `outputs`.

        Raises:
            InputError: the library is missing, or it can't read the file.
        """

    @abstractmethod
    def check(self) -> None:
        """Raises InputError where the engine can't run on this machine."""

    def missing(self) -> str | None:
        """See `Engine.missing`."""
        try:
            self.check()
        except EdgepruneError as error:
            return str(error)
        return None

    def prepare(self, graphs: Sequence[Path], again: bool = False) -> dict[Path, EdgepruneError]:
        """See `Engine.prepare`: these read the graphs as they are."""
        return {}

    def compiled(self, graph: Path) -> dict[str, Any] | None:
        """See `Engine.compiled`."""
        return {}

    def able(self, bundle: Bundle, precision: str) -> tuple[list[str], list[str]]:
        """See `Engine.able`: all that were built in that precision."""
        tails, names = bundle.graphs(precision).tails, [bucket.name for bucket in bundle.manifest.buckets]
        return [name for name in names if name in tails] if tails else names[-1:], []

    def open(
        self, bundle: Bundle, precision: str, buckets: Sequence[str] | None = None, threads: int = 2
    ) -> "BoundSession":
        """See `Engine.open`."""
        return BoundSession(self, bundle, precision, buckets, threads)

    def open_graph(self, path: Path, threads: int = 2) -> "BoundGraph":
        """See `Engine.open_graph`."""
        return BoundGraph(self, path, threads)


def _describe(bound: Bound, threads: int) -> dict[str, Any]:
    warm_up = f"{WARM_UP_RUNS} runs of each graph before the first frame"
    return bound.describe() | {"threads": threads, "warm_up": warm_up}


def _held(held: ExitStack, bound: Bound) -> Bound:
    """`bound`, which is closed with `held`."""
    held.callback(bound.close)
    return bound


def answers(outputs: Collection[str]) -> list[str]:
    """Those of a graph's outputs that come back to the host as a task's; a trunk's, beside `count`, are for its tails alone."""
    return [] if COUNT in outputs else list(outputs)


def _read(bound: Bound) -> Outputs:
    """Ids are bytes; plans of Torch-TensorRT give them in INT32."""
    found = {name: bound.read(name) for name in answers(bound.outputs)}
    return {
        name: array.astype(np.uint8, copy=False) if array.dtype == np.int32 else array for name, array in found.items()
    }


def _grey(bound: Bound) -> UInt8:
    return np.full(bound.frame_shape, 128, np.uint8)


class BoundSession:
    """See `Session`. The tails read the trunk's output tensors where they lie."""

    def __init__(
        self, engine: BoundEngine, bundle: Bundle, precision: str, buckets: Sequence[str] | None, threads: int
    ):
        graphs = bundle.graphs(precision)
        opened = [bundle.bucket(name).name for name in buckets] if buckets is not None else list(graphs.tails)
        paths = {name: bundle.path(choose(graphs.tails, name, "bucket")) for name in opened} if graphs.tails else {}
        self._precision, self._threads = precision, threads
        self._tokens = bundle.manifest.tokens
        with ExitStack() as held:  # what fails half-way leaves nothing open
            self._trunk = _held(held, engine.bind(bundle.path(graphs.trunk), threads))
            self._tails = {
                name: _held(held, engine.bind(path, threads, self._trunk.outputs)) for name, path in paths.items()
            }
            if not graphs.tails:  # nothing is gated: the trunk is the whole network
                self._tails[bundle.manifest.buckets[-1].name] = self._trunk
            grey_HW3 = _grey(self._trunk)
            for _ in range(WARM_UP_RUNS):
                self.start(grey_HW3)
                for name in self._tails:
                    self.finish(name)
            self._held = held.pop_all()

    def start(self, frame_HW3: UInt8) -> int:
        self._trunk.run(frame_HW3)
        return int(self._trunk.read(COUNT)) if COUNT in self._trunk.outputs else self._tokens

    def finish(self, bucket: str) -> Outputs:
        tail = choose(self._tails, bucket, "bucket")
        if tail is not self._trunk:
            tail.run()
        return _read(tail)

    def describe(self) -> dict[str, Any]:
        return _describe(self._trunk, self._threads) | {"precision": self._precision}

    def close(self) -> None:
        self._tails.clear()
        self._held.close()


class BoundGraph:
    """See `Graph`."""

    def __init__(self, engine: BoundEngine, path: Path, threads: int):
        if not path.is_file():
            raise InputError(f"graph {path} is not there; build it with `edgeprune build --precision fp32`")
        self._path, self._threads = path, threads
        with ExitStack() as held:
            self._bound = _held(held, engine.bind(path, threads))
            if len(self._bound.frame_shape) != 3 or not answers(self._bound.outputs):
                raise InputError(
                    f"graph {path} does not turn a {FRAME!r} (H, W, 3) into an answer: it has frame "
                    f"{self._bound.frame_shape} and outputs {', '.join(self._bound.outputs)}; export it with those names"
                )
            grey_HW3 = _grey(self._bound)
            for _ in range(WARM_UP_RUNS):
                self(grey_HW3)
            self._held = held.pop_all()

    def __call__(self, frame_HW3: UInt8) -> Outputs:
        if frame_HW3.shape != self._bound.frame_shape:
            height, width = self._bound.frame_shape[:2]
            raise InputError(
                f"graph {self._path} takes frames of {height}x{width}, not {frame_HW3.shape[0]}x{frame_HW3.shape[1]}; "
                "export it at the bundle's input size"
            )
        self._bound.run(frame_HW3)
        return _read(self._bound)

    def describe(self) -> dict[str, Any]:
        return _describe(self._bound, self._threads)

    def close(self) -> None:
        self._held.close()
