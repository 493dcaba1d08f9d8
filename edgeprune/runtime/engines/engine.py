"""What every inference engine is to the rest of edgeprune: a row of ENGINES that knows how to bind a graph's file."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgeprune.base.errors import EdgepruneError, InputError
from edgeprune.bundle import Bundle
from edgeprune.bundle.memory import STILL, StateTensor
from edgeprune.runtime.engines.bound import Bound, Outputs, UInt8
from edgeprune.runtime.engines.memory import free_host_bytes, lacks_memory, no_memory
from edgeprune.runtime.engines.memory_session import MemorySession
from edgeprune.runtime.engines.session import Graph, Session

__all__ = ["Engine", "Outputs", "UInt8", "import_library"]


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


class Engine(ABC):
    """Base of the engines: `bind` and `check` are an engine's own, and `prepare`, `compiled`, `able` where it compiles graphs.
    Its file is imported without its library, which may be missing here.

    Attributes:
        takes_threads: whether a count of CPU threads says anything to it.
        remembers: whether it keeps tensors between frames (`hold`, `written` of `bind`, `Bound.again`); without it a run leaves
            a bundle's memory out.
        writes_in_place: whether a graph may write a row of a tensor that it reads, so that one set of a state is enough.
    """

    takes_threads = True
    remembers = False
    writes_in_place = False

    @abstractmethod
    def bind(
        self,
        path: Path,
        threads: int,
        state: Mapping[str, Any] | None = None,
        written: Mapping[str, Any] | None = None,
    ) -> Bound:
        """Opens a graph's file.

        Args:
            state: tensors, such as another graph's `outputs`, from which inputs of these names are read; None: the host gives
                all inputs.
            written: tensors that outputs of these names are written to; the others have tensors of their own. The host then
                gives HOST_INPUTS, whatever `state` has.

        Raises:
            InputError: the library is missing, it can't read the file, or `state` lacks one of the inputs.
        """

    def hold(self, tensors: Sequence[StateTensor], held: ExitStack) -> Mapping[str, Any]:
        """Tensors of zeros by name, which graphs of this engine read and write; they are given back with `held`.

        Raises:
            InputError: this engine has none.
            RunError: there is no memory for them.
        """
        raise InputError("this engine keeps nothing between frames; take another, or `--chooser in-frame`")

    def cannot_remember(self, graphs: Iterable[Path]) -> str | None:
        """Why it can't run these graphs of a memory on this machine, as they are; None: it can."""
        if not self.remembers:
            return "this engine keeps nothing between frames"
        absent = (f"{path.name} is not compiled for this device" for path in graphs if self.compiled(path) is None)
        return next(absent, None)

    def held_bytes(self, tensor: StateTensor) -> int:
        """How much memory `hold` takes for it."""
        return tensor.nbytes

    @abstractmethod
    def check(self) -> None:
        """Raises InputError where the engine can't run on this machine."""

    def missing(self) -> str | None:
        """Why it can't run on this machine, and what to type; None where it can."""
        try:
            self.check()
        except EdgepruneError as error:
            return str(error)
        return None

    def prepare(self, graphs: Sequence[Path], again: bool = False) -> dict[Path, EdgepruneError]:
        """Compiles, into this device's cache, what has to be compiled and is not yet; by default nothing, graphs are read as
        they are.

        Args:
            graphs: files.
            again: compile what is there already too, and time everything anew.

        Returns:
            the graphs that it can't read or build, each with the reason, which was said too; the others are compiled.

        Raises:
            InputError: the library is missing, a graph is not there, or the cache can't be written to.
            RunError: the disk is full.
        """
        return {}

    def compiled(self, graph: Path) -> dict[str, Any] | None:
        """What is known of a graph's compiled form (`sha256`, and what the engine adds); None where it has to be compiled and
        is not, empty where this engine compiles nothing."""
        return {}

    def able(self, bundle: Bundle, precision: str, beside: Sequence[Path] = ()) -> tuple[list[str], list[str]]:
        """Which buckets of a precision can be opened here, in the order of the manifest; by default all that were built.

        Args:
            beside: graphs that will be open at the same time, and need memory too.

        Returns:
            their names, and a line to say for those that can't: they are not compiled, or memory does not hold them.

        Raises:
            InputError: unknown precision.
            RunError: memory does not even hold the trunk and the last bucket.
        """
        tails, names = bundle.graphs(precision).tails, [bucket.name for bucket in bundle.manifest.buckets]
        return [name for name in names if name in tails or name == STILL] if tails else names[-1:], []

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
        if bundle.remembers:
            return MemorySession(self, bundle, precision, buckets, threads)
        return Session(self.bind, bundle, precision, buckets, threads)

    def open_graph(self, path: Path, threads: int = 2) -> Graph:
        """Opens a single graph from its file.

        Raises:
            InputError: the library is missing, no such file, or a graph that it can't read.
            RunError: as `open`.
        """
        return Graph(self.bind, path, threads)
