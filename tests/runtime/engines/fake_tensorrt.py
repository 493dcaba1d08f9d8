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
- Several contexts may be of one engine, whose weights are there once, until the last of them is gone. [NvInferRuntime.h,
  IExecutionContext]
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

import enum
import pickle
import weakref
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tests.runtime.engines.fake_builder import Config, Network, OnnxParser, TimingCache
from tests.runtime.engines.fake_cuda import FakeCudart
from tests.runtime.engines.fake_engine import NO_MEMORY, Engine
from tests.runtime.engines.fake_names import (
    CREATION_10,
    CREATION_11,
    FLAGS_10,
    FLAGS_11,
    DataType,
    ExecutionContextAllocationStrategy,
    ILogger,
    IProgressMonitor,
    Logger,
    MemoryPoolType,
    Severity,
    TensorIOMode,
    logger_of,
    typed,
)  # fmt: skip
from tests.runtime.engines.fake_network import LayerType, weakly_typed

__all__ = ["NO_MEMORY", "Engine", "OnnxParser", "make"]

# what TensorRT logs where it finds no memory [NVIDIA/TensorRT issues, of builds and of engines]


def make(version: str, cudart: FakeCudart) -> Any:
    """The module, in a version."""
    module: Any = ModuleType("tensorrt")
    module.__spec__ = ModuleSpec("tensorrt", None)  # as of a real one: torch asks whether TensorRT is there
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
        kept = next(iter(users.values()), logger_of(logger))
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

        def create_network(self, flags: int = 0) -> Network:
            strongly = bool(typed(flags, int, "flags") >> int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED) & 1)
            return Network(strongly or eleven, self._fail)

        def create_builder_config(self) -> Config:
            return Config(version, module.BuilderFlag)

        def build_serialized_network(self, network: Network, config: Config) -> memoryview | None:
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
            config._cache = config._cache or TimingCache(version, b"")
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

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
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
            return Engine(plan | {"weights": len(serialized_engine)}, self._logger, cudart)

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
