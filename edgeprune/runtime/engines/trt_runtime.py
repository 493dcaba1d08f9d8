"""What all TensorRT graphs of a process share: the library, its logger, a CUDA stream, the plans, and one block of activation
memory, because no two of the graphs run at once: who works on the stream or with that memory has the lock. A new bundle is
opened in a thread of its own, while the loop runs the old one (`renewal.py`)."""

import sys
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from edgeprune.base.device import memory_mb
from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.engines.cuda import Cuda, open_cuda
from edgeprune.runtime.engines.engine import import_library
from edgeprune.runtime.engines.memory import no_memory
from edgeprune.runtime.engines.plan_builder import PlanBuilder, too_old
from edgeprune.runtime.engines.plans import Plans
from edgeprune.runtime.engines.trt_log import Log, start


def load_tensorrt() -> Any:
    """The library.

    Raises:
        InputError: it isn't here.
    """
    return import_library(
        "tensorrt",
        "TensorRT",
        "it comes with JetPack: `sudo apt install nvidia-jetpack` on a Jetson, in an environment that sees it; or take a "
        "bundle for this machine's CPU: `edgeprune build --target onnx-cpu`",
    )


class Scratch:
    """The activation memory that all contexts share: as large as the largest of them, gone with the last of them."""

    def __init__(self, cuda: Cuda):
        self._cuda, self.address, self.size, self._users = cuda, 0, 0, 0
        self.generation = 0  # contexts and CUDA graphs that know an older address are renewed

    def reserve(self, size: int) -> None:
        """For one more context, which `release`s it. Where there is no memory for it the others keep what they had."""
        if size > self.size:
            before = self.size
            self._free()  # first: a small device may not hold both
            try:
                self._take(size)
            except RunError:
                if before:
                    self._take(before)
                raise
        self._users += 1

    def release(self) -> None:
        """One context less."""
        self._users -= 1
        if not self._users:
            self._free()

    def _take(self, size: int) -> None:
        self.address, self.size = self._cuda.allocate(size), size
        self.generation += 1

    def _free(self) -> None:
        if self.address:
            address, self.address, self.size = self.address, 0, 0
            self._cuda.free(address)


@dataclass(frozen=True)
class Runtime:
    """What the graphs of a process share.

    Attributes:
        lock: of `stream`, on which all that another thread puts while it is captured is captured with it, and of `scratch`.
    """

    trt: Any
    log: Log
    cuda: Cuda
    plans: Plans
    builder: PlanBuilder
    scratch: Scratch
    stream: int
    runtime: Any
    lock: threading.RLock = field(default_factory=threading.RLock)

    def memory_limit(self) -> int:
        """Bytes that the plans of a bundle may take together."""
        given, free = memory_mb(), self.cuda.free_bytes()
        if given is not None:
            return given << 20
        return sys.maxsize if free is None else free * 3 // 4

    def failure(self, what: str, needed: int | None = None) -> RunError:
        """Why something failed since `log.listen`: the lack of memory where it was that. `needed`: bytes."""
        if self.log.lacks_memory:
            return no_memory(what, needed, self.cuda.free_bytes())
        return RunError(f"{what}: {self.log.reason}")


@cache
def open_runtime() -> Runtime:
    """One per process.

    Raises:
        InputError: no TensorRT, no CUDA, no GPU, or too old.
        RunError: TensorRT can't start on this GPU.
    """
    trt, cuda = load_tensorrt(), open_cuda()
    if too_old(trt.__version__):
        raise InputError(f"TensorRT {trt.__version__} is too old; 10.3 or later is needed (JetPack 6.1 or later)")
    log = Log(trt)
    plans, runtime = Plans(trt.__version__, cuda), start(trt.Runtime, log)
    builder = PlanBuilder(trt, cuda, log, lambda: plans.timing)
    return Runtime(trt, log, cuda, plans, builder, Scratch(cuda), cuda.stream(), runtime)
