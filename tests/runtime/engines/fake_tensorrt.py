"""The part of `tensorrt` that edgeprune calls, on ONNX Runtime: `make("10.3.0", cudart)` is the module.

Rules it holds to (TensorRT Python API reference and developer guide; the page in brackets):
- A class of one's own must call the base's `__init__`. [Core/Logger, Core/ProgressMonitor]
- 10.x builds a strongly typed network where the creation flag says so; 11 builds nothing else and ignores the flag.
  [migration/tensorrt-10x-to-11x]
- Precision flags, the calibrator and `device_memory_size` are gone in 11. [migration/...-python-api-reference]
- Of loggers the first is kept: another one is ignored as long as a builder or a runtime of the first is alive; a parser logs to
  the one it was given. [NvInferRuntime.h, createInferRuntime; onnx-tensorrt, NvOnnxParser.h, createParser]
- TF32 is on until it is cleared. [NvInfer.h, BuilderFlag::kTF32; docstring of tensorrt.BuilderFlag, 10.3 and 11.4]
- A builder or runtime that can't start is none, which the bindings answer with a TypeError. [seen with 10.3.0 and 11.4.0]
- An engine takes device memory for its weights; where there is none, there is no engine. [Core/Runtime]
- What fails returns None or False, and says why to the logger. [Core/Builder, Core/Runtime]
- A plan is refused by another version. [developer guide, engine compatibility]
- A timing cache of another version is refused unless the mismatch is to be ignored. [Core/BuilderConfig]
- With USER_MANAGED memory a context runs only once it was given at least `device_memory_size_v2` bytes, aligned to 256;
  every input and output needs an address, aligned to 256. [Core/ExecutionContext]
- A context runs once before it is captured. [developer guide, CUDA graphs]
- The ONNX parser takes what `edgeprune.export.lint.parser_table` says, with its sources, and nothing else.
- Inputs of open length need an optimization profile, which this fake can't make. [developer guide, Working with Dynamic
  Shapes]
- A stream handle, an address and a size are integers; a name is a string. [pybind11 signatures of 10.3 to 11]
"""

import ctypes
import enum
import pickle
import weakref
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from edgeprune.export.lint.parser import refusals
from tests.runtime.engines.fake_cuda import ALIGNMENT, FakeCudart
from tests.runtime.engines.fake_network import Layer, LayerType, layers_of, weakly_typed

TYPES = {
    "tensor(float)": ("FLOAT", np.float32),
    "tensor(float16)": ("HALF", np.float16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(bool)": ("BOOL", np.bool_),
}
DataType = enum.Enum("DataType", [name for name, _ in TYPES.values()])  # type: ignore[misc]
# tensorrt.BuilderFlag of 10.3.0 and of 11.4.0 (those that matter here)
FLAGS_10 = {
    "FP16": 0,
    "INT8": 1,
    "REFIT": 4,
    "TF32": 6,
    "OBEY_PRECISION_CONSTRAINTS": 9,
    "PREFER_PRECISION_CONSTRAINTS": 10,
}
FLAGS_11 = {"REFIT": 4, "TF32": 6}
CREATION_10 = {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
CREATION_11 = {"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1, "PREFER_AOT_PYTHON_PLUGINS": 2}


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class _Base:
    _ready = False

    def __init__(self) -> None:
        self._ready = True


class ILogger(_Base):
    Severity = Severity


class Logger(ILogger):
    ERROR = Severity.ERROR

    def __init__(self, least: Any = Severity.WARNING):
        super().__init__()

    def log(self, severity: Any, message: str) -> None:
        pass


class IProgressMonitor(_Base):
    pass


def _typed(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"incompatible function arguments: {what} is {type(value).__name__}, not {kind.__name__}")
    return value


def _logger(logger: Any) -> Any:
    _typed(logger, ILogger, "logger")
    if not logger._ready:
        raise TypeError("tensorrt.ILogger.__init__() must be called when overriding __init__")
    return logger


class _Network:
    def __init__(self, strongly_typed: bool, fail: Any):
        self.strongly_typed, self._fail = strongly_typed, fail
        self.model: onnx.ModelProto | None = None
        self._layers: list[Layer] | None = None

    @property
    def layers(self) -> list[Layer]:
        if self._layers is None:
            self._layers = layers_of(self.model, DataType, self.strongly_typed, self._fail) if self.model else []
        return self._layers

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[_typed(index, int, "index")]


class _ParserError:
    def __init__(self, reason: str):
        self._reason = reason

    def desc(self) -> str:
        return self._reason


class OnnxParser:
    version: tuple[int, int]

    def __init__(self, network: _Network, logger: Any):
        self._network, self._errors = network, []  # type: ignore[var-annotated]
        _logger(logger)

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> _ParserError:
        return _ParserError(self._errors[index])

    def parse_from_file(self, path: str) -> bool:
        """Finds external weights beside the file."""
        try:
            model = onnx.load(_typed(path, str, "path"))
        except Exception as error:
            self._errors.append(f"cannot parse {Path(path).name}: {type(error).__name__}")
            return False
        self._errors += refusals(model, self.version)
        self._network.model = model
        return not self._errors


class _TimingCache:
    def __init__(self, version: str, content: bytes):
        self.version = content.decode().split("|")[0] if content else version
        self.entries = content.decode().split("|")[1:] if content else []

    def serialize(self) -> memoryview:
        return memoryview("|".join([self.version, *self.entries]).encode())


class _Config:
    def __init__(self, version: str, flags: Any):
        self._version, self._flag = version, flags
        self.flags = {"TF32"}
        self.pools: dict[MemoryPoolType, int] = {}
        self.progress_monitor: Any = None
        self._cache: _TimingCache | None = None

    def set_flag(self, flag: Any) -> None:
        self.flags.add(_typed(flag, self._flag, "flag").name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(_typed(flag, self._flag, "flag").name)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[_typed(pool, MemoryPoolType, "pool")] = _typed(pool_size, int, "pool_size")

    def create_timing_cache(self, serialized_timing_cache: bytes) -> _TimingCache:
        return _TimingCache(self._version, _typed(serialized_timing_cache, bytes, "serialized_timing_cache"))

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        if cache.version != self._version and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> _TimingCache | None:
        return self._cache


class Tensor:
    """An input or output of a session."""

    def __init__(self, argument: Any, mode: TensorIOMode):
        self.name, self.shape, self.mode = argument.name, tuple(argument.shape), mode
        kind, self.numpy_type = TYPES[argument.type]
        self.dtype = DataType[kind]
        self.size = int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.numpy_type).itemsize


class _Context:
    def __init__(self, engine: "_Engine", managed: bool):
        self._engine, self._managed = engine, managed
        self._addresses: dict[str, int] = {}
        self._memory = (0, 0)
        self._has_run = False

    def set_device_memory(self, memory: int, size: int) -> None:
        self._memory = (_typed(memory, int, "memory"), _typed(size, int, "size"))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if _typed(name, str, "name") not in self._engine.tensors or _typed(memory, int, "memory") % ALIGNMENT:
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, cudart = self._engine, self._engine.cudart
        _typed(stream_handle, int, "stream_handle")
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


class _Engine:
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
        return list(self.tensors)[_typed(index, int, "index")]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self.tensors[name].mode

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def get_tensor_dtype(self, name: str) -> Any:
        return self.tensors[name].dtype

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> _Context | None:
        _typed(strategy, ExecutionContextAllocationStrategy, "strategy")
        if self.no_context:
            self._logger.log(Severity.ERROR, NO_MEMORY)
            return None
        return _Context(self, strategy is ExecutionContextAllocationStrategy.USER_MANAGED)


# what TensorRT logs where it finds no memory [NVIDIA/TensorRT issues, of builds and of engines]
NO_MEMORY = "[defaultAllocator.cpp::allocate::52] Error Code 1: Cuda Runtime (out of memory)"


def make(version: str, cudart: FakeCudart) -> Any:
    """The module, in a version."""
    module: Any = ModuleType("tensorrt")
    eleven = int(version.split(".")[0]) >= 11
    module.built = []  # (network, config) of each build, for tests
    module.handed = []  # for each build, what was in the timing cache that it was given
    module.bytes_per_node = 1000  # of activations
    module.weights = 0  # bytes that an engine takes for its weights, beside its plan's
    module.refuses = ""  # a reason to fail every build
    module.refuses_graph = {}  # by the name of a graph, a reason to fail its build
    module.not_strongly = ""  # a reason to fail every strongly typed build, as an older TensorRT may have
    module.cannot_start = ""  # a reason why no builder and no runtime can be made
    users: weakref.WeakKeyDictionary[Any, Any] = (
        weakref.WeakKeyDictionary()
    )  # builders and runtimes, with the logger kept

    def register(user: Any, logger: Any) -> Any:
        kept = next(iter(users.values()), _logger(logger))
        if module.cannot_start:
            kept.log(Severity.ERROR, module.cannot_start)
            raise TypeError("pybind11::init(): factory function returned nullptr")
        if kept is not logger:
            kept.log(Severity.WARNING, "The logger passed into createInfer differs from one already provided")
        users[user] = kept
        return kept

    major, minor, *_ = map(int, version.split("."))
    parser = type("OnnxParser", (OnnxParser,), {"version": (major, minor)})

    class Builder:
        def __init__(self, logger: Any):
            self._logger = register(self, logger)

        def _fail(self, reason: str) -> Any:
            self._logger.log(Severity.ERROR, reason)

        def create_network(self, flags: int = 0) -> _Network:
            strongly = bool(_typed(flags, int, "flags") >> int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED) & 1)
            return _Network(strongly or eleven, self._fail)

        def create_builder_config(self) -> _Config:
            return _Config(version, module.BuilderFlag)

        def build_serialized_network(self, network: _Network, config: _Config) -> memoryview | None:
            if module.refuses or network.model is None:
                return self._fail(module.refuses or "the network has no output")
            if reason := module.refuses_graph.get(network.model.graph.name):
                return self._fail(reason)
            if network.strongly_typed and module.not_strongly:
                return self._fail(module.not_strongly)
            if network.strongly_typed and config.flags & {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}:
                return self._fail("precision flags in a strongly typed network")
            model: Any = network.model
            if not network.strongly_typed:
                model = weakly_typed(network.model, network.layers, config.flags, self._fail)
                if model is None:
                    return None
            monitor = config.progress_monitor
            if monitor is not None:
                if not monitor._ready:
                    raise TypeError("tensorrt.IProgressMonitor.__init__() must be called when overriding __init__")
                monitor.phase_start("Building Engine", None, 2)
                for step in range(2):
                    if not monitor.step_complete("Building Engine", step):
                        return None
                monitor.phase_finish("Building Engine")
            config._cache = config._cache or _TimingCache(version, b"")
            module.handed.append(list(config._cache.entries))
            config._cache.entries += [node.op_type for node in network.model.graph.node]
            module.built.append((network, config))
            content = {
                "version": version,
                "model": model.SerializeToString(),
                "memory": module.bytes_per_node * len(network.model.graph.node),
                "padding": bytes(module.weights),
            }
            return memoryview(pickle.dumps(content))

    class Runtime:
        def __init__(self, logger: Any):
            self._logger = register(self, logger)

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> _Engine | None:
            try:
                plan = pickle.loads(serialized_engine)
            except Exception:
                self._logger.log(Severity.ERROR, "Serialization assertion magicTagRead == kMAGIC_TAG failed")
                return None
            if plan["version"] != version:
                self._logger.log(Severity.ERROR, "Version tag does not match")
                return None
            if len(serialized_engine) > cudart.free:
                self._logger.log(Severity.ERROR, NO_MEMORY)
                return None
            return _Engine(plan | {"weights": len(serialized_engine)}, self._logger, cudart)

    module.BuilderFlag = enum.IntEnum("BuilderFlag", FLAGS_11 if eleven else FLAGS_10)  # type: ignore[misc]
    creation = CREATION_11 if eleven else CREATION_10
    module.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", creation)  # type: ignore[misc]
    for each in (
        Builder, DataType, ExecutionContextAllocationStrategy, ILogger, IProgressMonitor, LayerType, Logger, MemoryPoolType,
        parser, Runtime, TensorIOMode,
    ):  # fmt: skip
        setattr(module, each.__name__, each)
    module.__version__ = version
    return module
