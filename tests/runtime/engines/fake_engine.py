"""What the fake of TensorRT runs: an engine and its contexts, on ONNX Runtime.

The rules it holds to stand in `fake_tensorrt`.
"""

import ctypes
import weakref
from functools import lru_cache
from typing import Any

import numpy as np
import onnxruntime as ort

from tests.runtime.engines.fake_cuda import ALIGNMENT, FakeCudart
from tests.runtime.engines.fake_names import (
    TYPES,
    DataType,
    ExecutionContextAllocationStrategy,
    Severity,
    TensorIOMode,
    typed,
)

NO_MEMORY = "[defaultAllocator.cpp::allocate::52] Error Code 1: Cuda Runtime (out of memory)"


class Tensor:
    """An input or output of a session."""

    def __init__(self, argument: Any, mode: TensorIOMode):
        self.name, self.shape, self.mode = argument.name, tuple(argument.shape), mode
        kind, self.numpy_type = TYPES[argument.type]
        self.dtype = DataType[kind]
        self.size = int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.numpy_type).itemsize


class Context:
    def __init__(self, engine: "Engine", managed: bool):
        self._engine, self._managed = engine, managed
        self._addresses: dict[str, int] = {}
        self._memory = (0, 0)
        self._has_run = False

    def set_device_memory(self, memory: int, size: int) -> None:
        self._memory = (typed(memory, int, "memory"), typed(size, int, "size"))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if typed(name, str, "name") not in self._engine.tensors or typed(memory, int, "memory") % ALIGNMENT:
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, cudart = self._engine, self._engine.cudart
        typed(stream_handle, int, "stream_handle")
        address, size = self._memory
        if self._managed and (
            size < engine.device_memory_size_v2 or address % ALIGNMENT or cudart.size_at(address, cudart.device) < size
        ):
            return engine.fail("the context has no device memory, or too little")
        for tensor in engine.tensors.values():
            if cudart.size_at(self._addresses.get(tensor.name, 0), cudart.device) < tensor.size:
                return engine.fail(f"the address of {tensor.name} was not set")
        if stream_handle in cudart.recording and not self._has_run:
            return engine.fail("a context must run once before it is captured")
        if stream_handle not in cudart.recording:
            self._has_run = True
        return cudart.enqueue(stream_handle, self._compute) or engine.fail("unknown stream")

    def _compute(self) -> None:
        arrays = {
            name: np.ctypeslib.as_array(
                (ctypes.c_uint8 * max(tensor.size, 1)).from_address(self._addresses[name])
            ).view(tensor.numpy_type).reshape(tensor.shape)
            for name, tensor in self._engine.tensors.items()
        }  # fmt: skip
        inputs = {name: arrays[name] for name, each in self._engine.tensors.items() if each.mode == TensorIOMode.INPUT}
        names = [name for name in arrays if name not in inputs]
        if self._managed:  # on a device this would be a fault, or another one's memory
            least = self._engine.device_memory_size_v2
            assert self._engine.cudart.size_at(self._memory[0], self._engine.cudart.device) >= least, (
                "its memory was freed"
            )
        # activations of another context may have been here: whoever relies on what it left finds it gone
        ctypes.memset(self._memory[0], 0xCD, self._engine.device_memory_size_v2)
        for name, value in zip(names, self._engine.session.run(names, inputs), strict=True):
            np.copyto(arrays[name], value)


@lru_cache(maxsize=64)
def _session(model: bytes) -> Any:
    """Kept: making one takes longer than anything a test does with it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Engine:
    no_context = False  # for tests: whether it finds no memory for one

    def __init__(self, plan: dict[str, Any], logger: Any, cudart: FakeCudart):
        self.session = _session(plan["model"])
        self.cudart, self._logger = cudart, logger
        found = [Tensor(each, TensorIOMode.INPUT) for each in self.session.get_inputs()]
        found += [Tensor(each, TensorIOMode.OUTPUT) for each in self.session.get_outputs()]
        self.tensors = {tensor.name: tensor for tensor in found}
        self.device_memory_size_v2 = plan["memory"]
        cudart.of_library[id(self)] = plan["weights"]
        weakref.finalize(self, cudart.of_library.pop, id(self))

    def fail(self, reason: str) -> bool:
        self._logger.log(Severity.ERROR, reason)
        return False

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[typed(index, int, "index")]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self.tensors[name].mode

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def get_tensor_dtype(self, name: str) -> Any:
        return self.tensors[name].dtype

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> Context | None:
        typed(strategy, ExecutionContextAllocationStrategy, "strategy")
        if self.no_context:
            self._logger.log(Severity.ERROR, NO_MEMORY)
            return None
        return Context(self, strategy is ExecutionContextAllocationStrategy.USER_MANAGED)
