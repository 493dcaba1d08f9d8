"""A graph of TensorRT, bound once: its tensors, an execution context, and a CUDA graph of "frame in, kernels, result out".

The trunk's state stays in device memory, where the tails read it; a count and the answer of a tail are all that comes back. A
bound graph that is closed gives everything back.
"""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError, RunError, choose
from edgeprune.bundle.memory import DUE
from edgeprune.runtime.engines.bound import COUNT, HOST_INPUTS, HostInput, answers, trunk_scores
from edgeprune.runtime.engines.cuda import Array
from edgeprune.runtime.engines.memory import no_memory
from edgeprune.runtime.engines.trt_runtime import Runtime
from edgeprune.runtime.engines.trt_tensors import NUMPY_TYPES, DeviceTensor

NAME = "tensorrt"


class TensorRtBound:
    """A plan with its context, its memory and its CUDA graph. Outputs are `DeviceTensor`s. `engine`: the plan, where it is open
    already."""

    def __init__(
        self,
        runtime: Runtime,
        path: Path,
        state: Mapping[str, Any] | None,
        written: Mapping[str, DeviceTensor] | None,
        engine: Any = None,
    ):
        self._runtime, self._path = runtime, path
        self._engine: Any = None
        self._context: Any = None
        self._executable: int | None = None
        self._back: list[str] = []
        self._generation = 0  # of the scratch memory that the context and its CUDA graph know
        self.outputs: dict[str, DeviceTensor] = {}
        self._given: dict[str, DeviceTensor] = {}
        self._held = ExitStack()  # what `close` gives back, the last first
        self._held.callback(self._drop)
        try:
            self._engine = engine or self._read()  # while others run: it takes the longest
            with runtime.lock:
                self._prepare()
                self._tie(state, written)
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """A context of the engine. Raises RunError where there is no memory for it."""
        runtime, path = self._runtime, self._path
        runtime.log.listen()
        strategy = runtime.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = self._engine.create_execution_context(strategy)
        if self._context is None:
            raise runtime.failure(f"TensorRT can't make a context of {path.stem}")
        runtime.scratch.reserve(int(self._engine.device_memory_size_v2))
        self._held.callback(runtime.scratch.release)

    def _read(self) -> Any:
        """The engine of the plan, with its weights.

        Raises:
            InputError: there is no plan, or it is damaged.
            RunError: no memory.
        """
        runtime, path = self._runtime, self._path
        plans, log = runtime.plans, runtime.log
        try:
            plan = plans.read(path)
        except MemoryError as error:
            raise no_memory(f"{plans.path(path)} can't be read", plans.size(path)) from error
        log.listen()
        engine = runtime.runtime.deserialize_cuda_engine(plan)
        if engine is None:
            what = f"TensorRT {runtime.trt.__version__} can't load {plans.path(path)}"
            if log.lacks_memory:
                raise runtime.failure(what, len(plan))
            raise InputError(f"{what} ({log.reason}); compile it with `edgeprune compile BUNDLE --again`")
        return engine

    def _tie(self, state: Mapping[str, Any] | None, written: Mapping[str, DeviceTensor] | None) -> None:
        """Inputs and outputs to memory: of its own, or where `state` and `written` have them."""
        runtime, path = self._runtime, self._path
        names = runtime.plans.names(path)
        for index in range(self._engine.num_io_tensors):
            own = self._engine.get_tensor_name(index)
            name = names.get(own, own)
            if self._engine.get_tensor_mode(own) == runtime.trt.TensorIOMode.OUTPUT:
                if written and name in written:
                    tensor = written[name]
                    self._check_fits(own, name, tensor)
                else:
                    tensor = self.outputs[name] = self._allocate(own)
            elif state is None or (written is not None and name in HOST_INPUTS):
                tensor = self._given[name] = self._allocate(own)
            else:
                tensor = choose(state, name, "input of a tail:")
                self._check_fits(own, name, tensor)
            if not self._context.set_tensor_address(own, tensor.address):
                raise RunError(f"TensorRT refuses the memory of {name!r} of {path.stem}")
        scores = trunk_scores(self.outputs) if DUE in self._given else None
        self._back = [COUNT] if COUNT in self.outputs else [scores] if scores else answers(self.outputs)
        self._held.callback(self._drop)  # once more: where all went well before the memory that it works on
        self._held.callback(self._forget)
        self._held.callback(runtime.cuda.synchronize, runtime.stream)

    def again(self, state: Mapping[str, Any], written: Mapping[str, DeviceTensor]) -> "TensorRtBound":
        """With a context of its own; several may be of one engine, whose weights are there once (NvInferRuntime.h,
        `IExecutionContext`)."""
        return TensorRtBound(self._runtime, self._path, state, written, self._engine)

    def _drop(self) -> None:
        """The bindings free an object with its last reference."""
        self._context = None
        self._engine = None

    def _forget(self) -> None:
        executable, self._executable = self._executable, None
        if executable is not None:
            self._runtime.cuda.forget(executable)

    def close(self) -> None:
        """Gives everything back; what a device can't take back after a failure goes with the process."""
        with self._runtime.lock, suppress(RunError):
            self._held.close()

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
        self._held.callback(cuda.unpin, host)
        address = cuda.allocate(host.nbytes)
        self._held.callback(cuda.free, address)
        return DeviceTensor(address, host)

    @property
    def inputs(self) -> dict[str, HostInput]:
        return {name: HostInput(tensor.host.shape, tensor.host.dtype) for name, tensor in self._given.items()}

    def _enqueue(self) -> None:
        """Puts a frame's work on the stream."""
        cuda, stream = self._runtime.cuda, self._runtime.stream
        for tensor in self._given.values():
            cuda.copy_in(tensor.address, tensor.host, stream)
        self._runtime.log.listen()
        if not self._context.execute_async_v3(stream):
            raise self._runtime.failure(f"TensorRT can't run {self._path.stem}")
        for name in self._back:
            cuda.copy_out(self.outputs[name].host, self.outputs[name].address, stream)

    def _renew(self) -> None:
        """Tells the context where its activations go, and captures its work again.

        Once outside of a capture first: what a context puts off until its first run can't be captured (TensorRT developer
        guide, "CUDA Graphs").
        """
        cuda, stream, scratch = self._runtime.cuda, self._runtime.stream, self._runtime.scratch
        self._forget()
        self._context.set_device_memory(scratch.address, scratch.size)
        self._enqueue()
        cuda.synchronize(stream)
        self._executable = cuda.capture(stream, self._enqueue)
        self._generation = scratch.generation

    def run(self, given: Mapping[str, Array]) -> None:
        for name, array in given.items():
            assert array.shape == self._given[name].host.shape, array.shape  # a copy would broadcast it
            np.copyto(self._given[name].host, array)
        with self._runtime.lock:
            if self._executable is None or self._generation != self._runtime.scratch.generation:
                self._renew()
            assert self._executable is not None
            self._runtime.cuda.launch(self._executable, self._runtime.stream)
            if self._back:  # a graph whose results stay on the device is not waited for
                self._runtime.cuda.synchronize(self._runtime.stream)

    def read(self, name: str) -> np.ndarray:
        tensor = choose(self.outputs, name, "output")
        if name not in self._back:
            with self._runtime.lock:
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
            "typing": (self._runtime.plans.about(self._path) or {}).get("typing", "strong"),
            "activations_mb": round(self._runtime.scratch.size / 1e6, 1),
            "thread_policy": "one stream; one CUDA graph per bucket",
        }
