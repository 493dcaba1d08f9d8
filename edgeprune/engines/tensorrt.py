"""TensorRT on the device, from plans that were compiled there (see `plans`); with the `tensorrt` that JetPack brings.

A graph is bound once: its tensors, an execution context, and a CUDA graph of "frame in, kernels, result out". The trunk's
state stays in device memory, where the tails read it; a count and the labels are all that comes back. All contexts share one
block of activation memory: no two of them run at once.

Documented, never yet run on a Jetson: see docs/jetson.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.engines.bound import COUNT, FRAME, LABELS, BoundEngine, import_library
from edgeprune.engines.cuda import Array, Cuda, open_cuda
from edgeprune.engines.engine import UInt8
from edgeprune.engines.plans import Plans
from edgeprune.errors import InputError, RunError, choose

NAME = "tensorrt"
# tensorrt.DataType by name
NUMPY_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


def load_tensorrt() -> Any:
    """The library.

    Raises:
        InputError: it isn't here.
    """
    return import_library(
        "tensorrt",
        "TensorRT",
        "it comes with JetPack: `sudo apt install nvidia-jetpack`, in an environment that sees it",
    )


class Scratch:
    """The activation memory that all contexts share: as large as the largest of them."""

    def __init__(self, cuda: Cuda):
        self._cuda, self.address, self.size = cuda, 0, 0
        self.generation = 0  # contexts and CUDA graphs that know an older address are renewed

    def reserve(self, size: int) -> None:
        if size <= self.size:
            return
        if self.address:
            self._cuda.free(self.address)
        self.address, self.size = self._cuda.allocate(size), size
        self.generation += 1


@dataclass(frozen=True)
class Runtime:
    """What the graphs of a process share."""

    trt: Any
    cuda: Cuda
    plans: Plans
    scratch: Scratch
    stream: int
    runtime: Any


@cache
def open_runtime() -> Runtime:
    """One per process.

    Raises:
        InputError: no TensorRT, no CUDA, no GPU, or too old.
    """
    trt, cuda = load_tensorrt(), open_cuda()
    plans = Plans(trt, cuda)
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    return Runtime(trt, cuda, plans, Scratch(cuda), cuda.stream(), runtime)


class TensorRt(BoundEngine):
    """See `Engine`."""

    def check(self) -> None:
        open_runtime()

    def prepare(self, graphs: Sequence[Path], say: Callable[[str], None], again: bool = False) -> None:
        plans = open_runtime().plans
        missing = [graph for graph in graphs if again or not plans.has(graph)]
        if missing:
            say(f"compiles {len(missing)} graphs for this device into {plans.folder}; minutes each, once")
        for done, graph in enumerate(missing):
            seconds = plans.compile(graph, say)
            say(f"{graph.stem}: compiled in {seconds:.0f} s ({done + 1} of {len(missing)})")
        if warning := next(filter(None, map(plans.other_power_mode, graphs)), None):
            say(warning)

    def bind(self, path: Path, threads: int, state: Mapping[str, Any] | None = None) -> "TensorRtBound":
        return TensorRtBound(open_runtime(), path, state)


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor in device memory, and the page-locked array that it is copied from or to."""

    address: int
    host: Array


class TensorRtBound:
    """See `Bound`. Outputs are `DeviceTensor`s."""

    def __init__(self, runtime: Runtime, path: Path, state: Mapping[str, Any] | None):
        self._runtime, self._path = runtime, path
        trt = runtime.trt
        self._engine = runtime.runtime.deserialize_cuda_engine(runtime.plans.read(path))
        if self._engine is None:
            raise InputError(
                f"TensorRT {trt.__version__} can't load {runtime.plans.path(path)}; "
                "compile it with `edgeprune compile BUNDLE`"
            )
        self._context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self._context is None:
            raise RunError(f"TensorRT can't make a context of {path.stem}; is there memory left?")
        runtime.scratch.reserve(int(self._engine.device_memory_size_v2))
        self.outputs: dict[str, DeviceTensor] = {}
        self._frame: DeviceTensor | None = None
        names = runtime.plans.names(path)
        for index in range(self._engine.num_io_tensors):
            own = self._engine.get_tensor_name(index)
            name = names.get(own, own)
            if self._engine.get_tensor_mode(own) == trt.TensorIOMode.OUTPUT:
                tensor = self.outputs[name] = self._allocate(own)
            elif name == FRAME:
                tensor = self._frame = self._allocate(own)
            else:
                tensor = choose(state or {}, name, "input of a tail:")
                self._check_fits(own, name, tensor)
            if not self._context.set_tensor_address(own, tensor.address):
                raise RunError(f"TensorRT refuses the memory of {name!r} of {path.stem}")
        self._back = [name for name in (COUNT, LABELS) if name in self.outputs]
        self._generation = 0  # of the scratch memory that the context and its CUDA graph know
        self._executable: int | None = None

    def _type_of(self, name: str) -> Any:
        return choose(NUMPY_TYPES, self._engine.get_tensor_dtype(name).name, f"type of {name}:")

    def _check_fits(self, own: str, name: str, tensor: DeviceTensor) -> None:
        """Two builders, or two bundles, may type a state otherwise; its bits would be read all the same."""
        wanted = np.dtype(self._type_of(own)), tuple(self._engine.get_tensor_shape(own))
        given = tensor.host.dtype, tensor.host.shape
        if given != wanted:
            raise InputError(
                f"{self._path.stem} reads {name!r} as {wanted[0]} {wanted[1]}, the trunk gives {given[0]} {given[1]}: "
                "they are not of one build; `edgeprune compile BUNDLE --again`"
            )

    def _allocate(self, name: str) -> DeviceTensor:
        cuda = self._runtime.cuda
        shape = tuple(self._engine.get_tensor_shape(name))
        dtype = self._type_of(name)
        host = cuda.pinned(shape, dtype)
        return DeviceTensor(cuda.allocate(host.nbytes), host)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        return self._frame.host.shape if self._frame else ()

    def _enqueue(self) -> None:
        """Puts a frame's work on the stream."""
        cuda, stream = self._runtime.cuda, self._runtime.stream
        if self._frame is not None:
            cuda.copy_in(self._frame.address, self._frame.host, stream)
        if not self._context.execute_async_v3(stream):
            raise RunError(f"TensorRT can't run {self._path.stem}")
        for name in self._back:
            cuda.copy_out(self.outputs[name].host, self.outputs[name].address, stream)

    def _renew(self) -> None:
        """Tells the context where its activations go, and captures its work again.

        Once outside of a capture first: what a context puts off until its first run can't be captured (TensorRT developer
        guide, "CUDA Graphs").
        """
        cuda, stream, scratch = self._runtime.cuda, self._runtime.stream, self._runtime.scratch
        if self._executable is not None:
            cuda.forget(self._executable)
        self._context.set_device_memory(scratch.address, scratch.size)
        self._enqueue()
        cuda.synchronize(stream)
        self._executable = cuda.capture(stream, self._enqueue)
        self._generation = scratch.generation

    def run(self, frame_HW3: UInt8 | None = None) -> None:
        if frame_HW3 is not None:
            assert self._frame is not None and frame_HW3.shape == self.frame_shape, frame_HW3.shape
            np.copyto(self._frame.host, frame_HW3)
        if self._executable is None or self._generation != self._runtime.scratch.generation:
            self._renew()
        assert self._executable is not None
        self._runtime.cuda.launch(self._executable, self._runtime.stream)
        if self._back:  # a graph whose results stay on the device is not waited for
            self._runtime.cuda.synchronize(self._runtime.stream)

    def read(self, name: str) -> np.ndarray:
        tensor = choose(self.outputs, name, "output")
        if name not in self._back:
            self._runtime.cuda.copy_out(tensor.host, tensor.address, self._runtime.stream)
            self._runtime.cuda.synchronize(self._runtime.stream)
        return tensor.host.copy()

    def describe(self) -> dict[str, Any]:
        device = self._runtime.plans.device
        return {
            "engine": NAME,
            "version": device["tensorrt"],
            "provider": f"{device['board'] or 'GPU'} ({device['architecture']}), CUDA {device['cuda']}",
            "provider_asked": "GPU",
            "activations_mb": round(self._runtime.scratch.size / 1e6, 1),
            "thread_policy": "one stream; one CUDA graph per bucket",
        }
