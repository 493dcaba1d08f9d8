"""ONNX Runtime: on the CPU, and through its CUDA and TensorRT providers where onnxruntime-gpu is installed.

State between trunk and tail stays in its own tensors (OrtValue, IOBinding), on the device that computes.
"""

import copy
import os
from collections.abc import Mapping, Sequence, Set
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.base.device import cache_folder
from edgeprune.base.errors import EdgepruneError, InputError, RunError, choose
from edgeprune.base.machine import x86_flags
from edgeprune.bundle.memory import StateTensor
from edgeprune.runtime.engines.bound import HOST_INPUTS, Array, HostInput
from edgeprune.runtime.engines.engine import Engine, import_library
from edgeprune.runtime.engines.memory import free_host_bytes, lacks_memory, no_memory, saying_memory

NAME = "onnxruntime"
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

# Each session has threads of its own, and those that wait spin. Trunk and tails are several sessions, and a camera's
# decoder wants a core too, so how long they spin decides. One trunk and five tails of small float GEMMs and attention
# in one process, a frame resized in between, two threads on two cores, ONNX Runtime 1.31, medians in ms (best of two):
#                                             cores free   beside a training run
#   default: spin on after a run                  34.8            117
#   set_global_thread_pool_sizes (1.31)           18.7             62
#   spin within a run, stop at its end            18.8             70
#   ... and for 500 / 100 / 20 us at most     19.7/19.6/19.7   56/41/38
#   never spin                                    21.8             33
# 20 us bridge the gap between two operators, and no more. Versions that don't know the key (1.23) spin all through a
# run. A session between two runs takes no CPU time, so idle sessions disturb nobody.
THREADING = {"session.force_spinning_stop": "1", "session.intra_op.spin_duration_us": "20"}

# On x86 ONNX Runtime multiplies unsigned inputs by signed weights. Without VNNI it adds two products in 16 bits, where
# 2 * 255 * 127 is cut to half, and our weights have all codes up to 127. With this key weights are unsigned too, and sums
# exact, by slower kernels (onnxruntime_session_options_config_keys.h, kOrtSessionOptionsAvx2PrecisionMode). ONNX Runtime
# takes these where there is VNNI as well (mlas/lib/platform.cpp, MlasPlatformU8S8Overflow; 1.31: seen in the optimized
# graph), so there it is not set.
EXACT = {"session.x64quantprecision": "1"}
UNSIGNED = "where there are any, of unsigned weights and slower: this CPU has no VNNI"
VNNI = {"avx512_vnni", "avx_vnni"}  # as Linux calls it

NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def load_onnxruntime() -> Any:
    """The library.

    Raises:
        InputError: it isn't installed.
    """
    return import_library("onnxruntime", "ONNX Runtime", "pip install onnxruntime")


def exact_products(flags: Set[str]) -> dict[str, str]:
    """What keeps the sums of INT8 products whole. `flags`: of an x86 CPU, none of any other."""
    return EXACT if flags and not flags & VNNI else {}


@cache
def _share_arena() -> None:
    """One arena for every session of this process. They never run at once, and activations of five tails in an arena each
    are 137 MB (street-tiny: 318 MB resident with all buckets open, 182 with one arena, at the same speed)."""
    library = load_onnxruntime()
    memory = library.OrtMemoryInfo("Cpu", library.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, library.OrtMemType.DEFAULT)
    unlimited, power_of_two, default = 0, 0, -1
    library.create_and_register_allocator(memory, library.OrtArenaCfg(unlimited, power_of_two, default, default))


def open_session(model: Path | bytes, threads: int, profile: Path | None = None, provider: str = CPU) -> Any:
    """An `onnxruntime.InferenceSession`, all graph optimizations on, threads as in THREADING, INT8 products exact.

    Args:
        model: a file, or a serialized model.
        threads: of an operator.
        profile: how the name of a profile begins, which the session then writes.
        provider: what is to run the graph; ONNX Runtime falls back to the CPU without a word, here that is refused.

    Raises:
        InputError: the library or the provider is missing, or it can't read the model.
        RunError: there is no memory for it.
    """
    library = load_onnxruntime()
    check_provider(provider)
    options = library.SessionOptions()
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # errors are raised; on standard error they would be said twice
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    _share_arena()
    for key, value in {**THREADING, **exact_products(x86_flags()), "session.use_env_allocators": "1"}.items():
        options.add_session_config_entry(key, value)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        source = model if isinstance(model, bytes) else str(model)
        # its own second try with other providers prints on standard output, which belongs to the result
        session = library.InferenceSession(source, options, providers=_providers(provider), enable_fallback=0)
    except Exception as error:  # its own exceptions share no base but this one
        reason = " ".join(str(error).split())
        name = "a model" if isinstance(model, bytes) else model
        if lacks_memory(error):
            raise no_memory(f"{NAME} {library.__version__} can't open {name}", free=free_host_bytes()) from error
        raise InputError(
            f"{NAME} {library.__version__} can't read {name} ({reason[:300]}); copy or build the bundle again"
        ) from error
    runs = session.get_providers()[0]
    if runs != provider:
        raise InputError(
            f"{provider} did not start, {NAME} {library.__version__} fell back to {runs}; its CUDA, cuDNN or TensorRT does "
            "not fit this machine's: see `edgeprune doctor`"
        )
    return session


def check_provider(provider: str) -> None:
    """Refuses a provider that the installed ONNX Runtime was built without.

    Raises:
        InputError: says what it has.
    """
    able = load_onnxruntime().get_available_providers()
    if provider not in able:
        raise InputError(
            f"the ONNX Runtime here has no {provider} (it has {', '.join(able)}); pip install onnxruntime-gpu, or on a Jetson "
            "NVIDIA's own wheel of it"
        )


def _providers(provider: str) -> list[Any]:
    """With what it leaves to others: TensorRT's provider hands what it can't do to CUDA's. TF32 is on by default in both, and
    rounds what a graph keeps in FP32: CUDA's has an option (onnxruntime#19357, from 1.18), TensorRT's the variable alone
    (onnxruntime#26029)."""
    cuda = (CUDA, {"use_tf32": "0"})
    if provider == CUDA:
        return [cuda]
    if provider != TENSORRT:
        return [provider]
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    kept = {"trt_engine_cache_enable": True, "trt_timing_cache_enable": True}
    folder = {"trt_engine_cache_path": str(cache_folder() / "onnxruntime")}
    return [(TENSORRT, kept | folder), cuda]


def _check_constant(path: Path, tensor: Any) -> None:
    """Refuses an input or output that can't be bound once: of a size that is not known, or a type without a number."""
    sizes = all(isinstance(size, int) and size >= 0 for size in tensor.shape)
    if not sizes or tensor.type not in NUMPY_TYPES:
        raise InputError(
            f"graph {path}: {tensor.name} is {tensor.type} {list(tensor.shape)}; constant sizes and one of "
            f"{', '.join(NUMPY_TYPES)} are expected: export it with constant sizes"
        )


def _new_value(provider: str, shape: Sequence[int], dtype: npt.DTypeLike) -> Any:
    """An OrtValue where a provider computes, of no values yet."""
    device = "cpu" if provider == CPU else "cuda"
    return load_onnxruntime().OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype).type, device, 0)


class OrtBound:
    """A graph whose tensors are OrtValues, tied by an IOBinding. `model`: what is run instead of the file, serialized."""

    def __init__(
        self,
        name: str,
        provider: str,
        path: Path,
        threads: int,
        state: Mapping[str, Any] | None,
        model: bytes | None = None,
        written: Mapping[str, Any] | None = None,
    ):
        self._name, self._provider, self._path = name, provider, path
        self._session = open_session(model or path, threads, provider=provider)
        self._tie(state, written)

    def _tie(self, state: Mapping[str, Any] | None, written: Mapping[str, Any] | None) -> None:
        """Inputs and outputs to tensors: of its own, or where `state` and `written` have them."""
        path = self._path
        self.outputs: dict[str, Any] = {}
        self.inputs: dict[str, HostInput] = {}
        self._binding = self._session.io_binding()
        for tensor in self._session.get_inputs():
            _check_constant(path, tensor)
            if state is None or (written is not None and tensor.name in HOST_INPUTS):
                self.inputs[tensor.name] = HostInput(tuple(tensor.shape), np.dtype(NUMPY_TYPES[tensor.type]))
            else:
                self._binding.bind_ortvalue_input(tensor.name, choose(state, tensor.name, f"input of {path}:"))
        for tensor in self._session.get_outputs():
            _check_constant(path, tensor)
            if written and tensor.name in written:
                self._binding.bind_ortvalue_output(tensor.name, written[tensor.name])
                continue
            with saying_memory(f"{NAME} can't hold {tensor.name} of {path}"):
                value = _new_value(self._provider, tensor.shape, NUMPY_TYPES[tensor.type])
            self.outputs[tensor.name] = value
            self._binding.bind_ortvalue_output(tensor.name, value)

    def again(self, state: Mapping[str, Any], written: Mapping[str, Any]) -> "OrtBound":
        twin = copy.copy(self)
        twin._tie(state, written)
        return twin

    def run(self, given: Mapping[str, Array]) -> None:
        for name, array in given.items():
            self._binding.bind_cpu_input(name, array)
        try:
            with saying_memory(f"{NAME} can't run {self._path}"):
                self._session.run_with_iobinding(self._binding)
        except EdgepruneError:
            raise
        except Exception as error:  # its own exceptions share no base but this one
            reason = " ".join(str(error).split())
            raise RunError(f"{self._name} can't run {self._path} ({reason[:300]}); build or export it again") from error

    def close(self) -> None:
        self.outputs.clear()
        self._binding = self._session = None

    def read(self, name: str) -> Array:
        # what an OrtValue gives as numpy is its own memory (1.31) or a copy (1.23)
        return np.array(self.outputs[name].numpy())

    def describe(self) -> dict[str, Any]:
        """It falls back to another provider without a word, so the one that really runs is said; `int8_products` where they are
        not of the fast kind."""
        return {
            "engine": self._name,
            "version": load_onnxruntime().__version__,
            "provider": self._session.get_providers()[0],
            "provider_asked": self._provider,
            "thread_policy": ", ".join(f"{key}={value}" for key, value in THREADING.items()),
        } | ({"int8_products": UNSIGNED} if self._provider == CPU and exact_products(x86_flags()) else {})


class OnnxRuntime(Engine):
    """ONNX Runtime with one of its execution providers."""

    remembers = True

    def __init__(self, name: str = NAME, provider: str = CPU):
        self.name, self.provider = name, provider

    def check(self) -> None:
        check_provider(self.provider)

    @property
    def writes_in_place(self) -> bool:  # type: ignore[override]
        """ScatterND on the CPU copies nothing where its input and output are one tensor (ONNX Runtime,
        cpu/tensor/scatter_nd.cc, "Re-use input for output")."""
        return self.provider == CPU

    def bind(
        self,
        path: Path,
        threads: int,
        state: Mapping[str, Any] | None = None,
        written: Mapping[str, Any] | None = None,
    ) -> OrtBound:
        return OrtBound(self.name, self.provider, path, threads, state, written=written)

    def hold(self, tensors: Sequence[StateTensor], held: ExitStack) -> Mapping[str, Any]:
        values = {}
        for tensor in tensors:
            with saying_memory(f"{NAME} can't hold {tensor.name}"):
                value = values[tensor.name] = _new_value(self.provider, tensor.shape, tensor.type)
                value.update_inplace(np.zeros(tensor.shape, tensor.type))
        held.callback(values.clear)
        return values
