"""What every inference engine is to the rest of edgeprune. An engine is an object that fulfils `Engine`.

Array shapes: frame_HW3 (uint8 RGB at the bundle's input size).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import EdgepruneError
from edgeprune.bundle import Bundle

UInt8 = npt.NDArray[np.uint8]
# What a graph answers, by name, as its task's head has it; copies of their own, ids in uint8. Of the semantic task `labels`,
# class ids (H, W) at the bundle's label size. `runtime/tasks` knows what to make of them.
Outputs = Mapping[str, npt.NDArray[Any]]


class Session(Protocol):
    """The graphs of one precision, opened and warmed up. A frame is `start()` and then `finish()`, in one thread.

    A bundle of the dense policy has one bucket whose graph runs in `start()`; `finish()` hands its outputs out.
    """

    def start(self, frame_HW3: UInt8) -> int:
        """Runs the trunk; its state stays where the engine keeps it.

        Returns:
            How many tokens are over the threshold; all of them where nothing is gated.
        """

    def finish(self, bucket: str) -> Outputs:
        """Runs the tail of a bucket on the state of the last `start()`; any number of buckets in turn.

        Raises:
            InputError: the bucket isn't in the bundle, or wasn't opened; the message lists those that were.
        """

    def describe(self) -> dict[str, Any]:
        """`engine`, `version`, `provider` (the one that really ran), `provider_asked`, `precision`, `threads`,
        `thread_policy`, and `warm_up` (runs of each graph before the first frame)."""

    def close(self) -> None:
        """Gives back everything that was taken to open it; a closed session can't be used again, closing twice is no error."""


class Graph(Protocol):
    """A single graph, frame -> outputs, opened and warmed up: the dense reference, or the stem with the head."""

    def __call__(self, frame_HW3: UInt8) -> Outputs:
        """What it answers of a frame."""

    def describe(self) -> dict[str, Any]:
        """As `Session.describe()`, without the precision."""

    def close(self) -> None:
        """As `Session.close()`."""


class Engine(Protocol):
    """A row of ENGINES. Its file is imported without its library, which may be missing here.

    Attributes:
        takes_threads: whether a count of CPU threads says anything to it.
    """

    takes_threads: bool

    def missing(self) -> str | None:
        """Why it can't run on this machine, and what to type; None where it can."""

    def prepare(self, graphs: Sequence[Path], again: bool = False) -> dict[Path, EdgepruneError]:
        """Compiles, into this device's cache, what has to be compiled and is not yet.

        Args:
            graphs: files.
            again: compile what is there already too, and time everything anew.

        Returns:
            the graphs that it can't read or build, each with the reason, which was said too; the others are compiled.

        Raises:
            InputError: the library is missing, a graph is not there, or the cache can't be written to.
            RunError: the disk is full.
        """

    def compiled(self, graph: Path) -> dict[str, Any] | None:
        """What is known of a graph's compiled form (`sha256`, and what the engine adds); None where it has to be compiled and
        is not, empty where this engine compiles nothing."""

    def able(self, bundle: Bundle, precision: str) -> tuple[list[str], list[str]]:
        """Which buckets of a precision can be opened here, in the order of the manifest.

        Returns:
            their names, and a line to say for those that can't: they are not compiled, or memory does not hold them.

        Raises:
            InputError: unknown precision.
            RunError: memory does not even hold the trunk and the last bucket.
        """

    def open(self, bundle: Bundle, precision: str, buckets: Sequence[str] | None = None, threads: int = 2) -> Session:
        """Opens the trunk and the tails of `buckets` (all by default).

        Args:
            bundle: from `open_bundle`.
            precision: one that the bundle was built in.
            buckets: names of buckets; a graph that is never run needs no memory.
            threads: how many threads an operator may use.

        Raises:
            InputError: unknown precision or bucket, the library is missing, or a graph that it can't read.
            RunError: there is no memory for it. Whatever is raised, nothing stays open.
        """

    def open_graph(self, path: Path, threads: int = 2) -> Graph:
        """Opens a single graph from its file.

        Raises:
            InputError: the library is missing, no such file, or a graph that it can't read.
            RunError: as `open`.
        """
