"""TensorRT on the device, from plans that were compiled there (see `plans`); with the `tensorrt` that JetPack brings.

A graph is bound once: its tensors, an execution context, and a CUDA graph of "frame in, kernels, result out". The trunk's
state stays in device memory, where the tails read it; a count and the answer of a tail are all that comes back. A bound
graph that is closed gives everything back.

Documented, never yet run on a Jetson: see docs/jetson.md.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import EdgepruneError, InputError, RunError, choose
from edgeprune.bundle import Bundle
from edgeprune.bundle.memory import DUE, StateTensor
from edgeprune.runtime.engines.bound import COUNT, HOST_INPUTS, HostInput, answers, trunk_scores
from edgeprune.runtime.engines.cuda import Array
from edgeprune.runtime.engines.engine import Engine
from edgeprune.runtime.engines.memory import MB, fitting, no_memory
from edgeprune.runtime.engines.trt_runtime import Runtime, open_runtime
from edgeprune.runtime.engines.trt_tensors import NUMPY_TYPES, DeviceTensor, hold_zeros

logger = logging.getLogger(__name__)

NAME = "tensorrt"


class TensorRt(Engine):
    """TensorRT on this device's GPU, from the plans in its cache."""

    takes_threads = False

    def check(self) -> None:
        open_runtime()

    def prepare(self, graphs: Sequence[Path], again: bool = False) -> dict[Path, EdgepruneError]:
        plans, builder = open_runtime().plans, open_runtime().builder
        missing = [graph for graph in graphs if again or not plans.has(graph)]
        failed: dict[Path, EdgepruneError] = {}
        if missing:
            plans.check(missing)
            builder.check()
            logger.info(f"compiles {len(missing)} graphs for this device into {plans.folder}; minutes each, once")
        if again:
            builder.forget_times()
        for done, graph in enumerate(missing, 1):
            try:
                built = builder.build(graph)
            except EdgepruneError as error:
                failed[graph] = error
                logger.warning(f"{graph.stem}: {error} ({done} of {len(missing)})")
                continue
            builder.keep_times(built)
            plans.store(graph, built.plan, built.seconds, {"typing": built.typing})
            logger.info(f"{graph.stem}: compiled in {built.seconds:.0f} s ({done} of {len(missing)})")
        if warning := next(filter(None, map(plans.other_power_mode, graphs)), None):
            logger.warning(warning)
        return failed

    def compiled(self, graph: Path) -> dict[str, Any] | None:
        return open_runtime().plans.about(graph)

    def able(self, bundle: Bundle, precision: str) -> tuple[list[str], list[str]]:
        """The buckets that are compiled and that memory holds together: each tail's plan has its own weights. Plans may take
        `$EDGEPRUNE_MEMORY_MB`, else three quarters of what is free; the rest is for activations.

        Raises:
            InputError: the trunk or the last bucket is not compiled.
        """
        runtime, graphs = open_runtime(), bundle.graphs(precision)
        names, lines = super().able(bundle, precision)
        if not graphs.tails:
            return names, lines
        trunk, tails = bundle.path(graphs.trunk), {name: bundle.path(graphs.tails[name]) for name in names}
        for path in (trunk, tails[names[-1]]):
            runtime.plans.read(path)
        compiled = [name for name, path in tails.items() if runtime.plans.has(path)]
        if absent := [name for name in names if name not in compiled]:
            lines.append(f"{', '.join(absent)}: left out in {precision}, not compiled for this device")
        sizes = {name: runtime.plans.size(tails[name]) for name in compiled}
        limit = runtime.memory_limit()
        kept = fitting(sizes, runtime.plans.size(trunk), limit)
        if not kept:
            needed = runtime.plans.size(trunk) + sizes[compiled[-1]]
            raise no_memory(f"trunk and bucket {compiled[-1]} in {precision} can't be opened", needed, limit)
        if large := [name for name in compiled if name not in kept]:
            total = runtime.plans.size(trunk) + sum(sizes.values())
            lines.append(
                f"{', '.join(large)}: left out in {precision}, all buckets take {total / MB:,.0f} MB together and "
                f"{limit / MB:,.0f} may be taken (EDGEPRUNE_MEMORY_MB, else three quarters of what is free)"
            )
        return kept, lines

    def bind(
        self,
        path: Path,
        threads: int,
        state: Mapping[str, Any] | None = None,
        written: Mapping[str, Any] | None = None,
    ) -> "TensorRtBound":
        return TensorRtBound(open_runtime(), path, state, written)

    def hold(self, tensors: Sequence[StateTensor], held: ExitStack) -> Mapping[str, Any]:
        return hold_zeros(open_runtime(), tensors, held)


class TensorRtBound:
    """A plan with its context, its memory and its CUDA graph. Outputs are `DeviceTensor`s."""

    def __init__(
        self, runtime: Runtime, path: Path, state: Mapping[str, Any] | None, written: Mapping[str, DeviceTensor] | None
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
        try:
            self._load()
            self._tie(state, written)
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        """Engine and context.

        Raises:
            InputError: there is no plan, or it is damaged.
            RunError: no memory.
        """
        runtime, path = self._runtime, self._path
        plans, log = runtime.plans, runtime.log
        self._held.callback(self._drop)
        try:
            plan = plans.read(path)
        except MemoryError as error:
            raise no_memory(f"{plans.path(path)} can't be read", plans.size(path)) from error
        log.listen()
        self._engine = runtime.runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            what = f"TensorRT {runtime.trt.__version__} can't load {plans.path(path)}"
            if log.lacks_memory:
                raise runtime.failure(what, len(plan))
            raise InputError(f"{what} ({log.reason}); compile it with `edgeprune compile BUNDLE --again`")
        log.listen()
        strategy = runtime.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = self._engine.create_execution_context(strategy)
        if self._context is None:
            raise runtime.failure(f"TensorRT can't make a context of {path.stem}")
        runtime.scratch.reserve(int(self._engine.device_memory_size_v2))
        self._held.callback(runtime.scratch.release)

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
        """With a context of its own, and the plan's weights once more."""
        return TensorRtBound(self._runtime, self._path, state, written)

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
        with suppress(RunError):
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
            "typing": (self._runtime.plans.about(self._path) or {}).get("typing", "strong"),
            "activations_mb": round(self._runtime.scratch.size / 1e6, 1),
            "thread_policy": "one stream; one CUDA graph per bucket",
        }
