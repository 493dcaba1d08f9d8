"""The dozen functions of CUDA's run time that engines of constant shapes need, by ctypes: JetPack brings the library, and
no Python package for it.

Addresses are integers. Names and error codes: CUDA Runtime API, modules Memory, Stream, Graph and Error Handling.
"""

import ctypes
import ctypes.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.engines.memory import free_host_bytes, no_memory

Array = npt.NDArray[Any]
# cudaGraphInstantiate takes three arguments from CUDA 12 on; JetPack 6.1 has 12.6, JetPack 7 has 13
OLDEST = 12000
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind
THREAD_LOCAL = 1  # cudaStreamCaptureMode: what other threads do meanwhile is no concern of the capture
NON_BLOCKING = 1  # cudaStreamNonBlocking: no waiting for the default stream
MULTIPROCESSORS, INTEGRATED, MAJOR, MINOR = 16, 18, 75, 76  # cudaDeviceAttr
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
NO_GPU = "take a bundle for this machine's CPU: `edgeprune build --target onnx-cpu`"


class Cuda:
    """The run time of device 0."""

    def __init__(self, library: Any):
        self._library = library
        version = ctypes.c_int()
        self._call("cudaRuntimeGetVersion", ctypes.byref(version))
        if version.value < OLDEST:
            raise InputError(
                f"CUDA {_dotted(version.value)} is too old; 12.0 or later is needed (JetPack 6.1 or later)"
            )
        self.version = _dotted(version.value)
        count = ctypes.c_int()
        code = library.cudaGetDeviceCount(ctypes.byref(count))  # no device and no driver are errors of it
        if code or not count.value:
            reason = f" ({self._reason(code)})" if code else ""
            raise InputError(f"CUDA finds no GPU here{reason}; run on the device, or {NO_GPU}")

    def _call(self, name: str, *arguments: Any) -> None:
        self._check(name, getattr(self._library, name)(*arguments))

    def _check(self, name: str, code: int) -> None:
        if code == OUT_OF_MEMORY:
            raise no_memory(f"CUDA: {name}", free=self.free_bytes())
        if code:
            raise RunError(f"CUDA: {name}: {self._reason(code)}")

    def _reason(self, code: int) -> str:
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        reason: bytes | None = self._library.cudaGetErrorString(ctypes.c_int(code))
        return reason.decode() if reason else f"error {code}"

    def _attribute(self, attribute: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), ctypes.c_int(0))
        return value.value

    def architecture(self) -> str:
        """What an engine is compiled for, such as `sm_87, 16 multiprocessors`."""
        return (
            f"sm_{self._attribute(MAJOR)}{self._attribute(MINOR)}, {self._attribute(MULTIPROCESSORS)} multiprocessors"
        )

    def free_bytes(self) -> int | None:
        """Bytes of device memory that can still be taken; None where CUDA doesn't tell, as while it fails.

        A Jetson's GPU shares the host's memory, and what `cudaMemGetInfo` calls free there leaves out what the host would give
        up of its page cache (CUDA Runtime API, `cudaMemGetInfo`, and its note on Tegra): there the larger of both is taken.
        """
        free, total, shares = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_int()
        code = self._library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
        code = code or self._library.cudaDeviceGetAttribute(
            ctypes.byref(shares), ctypes.c_int(INTEGRATED), ctypes.c_int(0)
        )
        if code:
            return None
        of_host = free_host_bytes() if shares.value else None
        return max(free.value, min(of_host or 0, total.value))

    def _allocate(self, name: str, size: int, *arguments: Any) -> int:
        address = ctypes.c_void_p()
        code = getattr(self._library, name)(ctypes.byref(address), ctypes.c_size_t(size), *arguments)
        if code == OUT_OF_MEMORY:
            raise no_memory(f"CUDA: {name}", size, self.free_bytes())
        self._check(name, code)
        assert address.value is not None
        return address.value

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device, aligned to 256."""
        return self._allocate("cudaMalloc", max(size, 1))

    def free(self, address: int) -> None:
        self._call("cudaFree", ctypes.c_void_p(address))

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """An array of page-locked memory, which copies may read and write while the host goes on. `unpin` frees it."""
        count = int(np.prod(shape, dtype=np.int64))
        size = max(count * np.dtype(dtype).itemsize, 1)
        memory = (ctypes.c_uint8 * size).from_address(self._allocate("cudaHostAlloc", size, ctypes.c_uint(0)))
        return np.frombuffer(memoryview(memory), dtype, count).reshape(shape)

    def unpin(self, array: Array) -> None:
        """Frees the memory of an array from `pinned`, which nobody may read any more."""
        self._call("cudaFreeHost", ctypes.c_void_p(array.ctypes.data))

    def stream(self) -> int:
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(stream), ctypes.c_uint(NON_BLOCKING))
        assert stream.value is not None
        return stream.value

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def copy_in(self, address: int, array: Array, stream: int) -> None:
        """Array -> device, in the order of the stream."""
        self._copy(address, array.ctypes.data, array.nbytes, TO_DEVICE, stream)

    def copy_out(self, array: Array, address: int, stream: int) -> None:
        """Device -> array, in the order of the stream."""
        self._copy(array.ctypes.data, address, array.nbytes, TO_HOST, stream)

    def _copy(self, to: int, source: int, size: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(to),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    @contextmanager
    def _capturing(self, stream: int, graph: ctypes.c_void_p) -> Iterator[None]:
        self._call("cudaStreamBeginCapture", ctypes.c_void_p(stream), ctypes.c_int(THREAD_LOCAL))
        try:
            yield
        except BaseException:  # a capture that is left open blocks the stream; what it holds by then is of no use
            self._library.cudaStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))
            if graph.value is not None:
                self._library.cudaGraphDestroy(graph)
            raise
        self._call("cudaStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))

    def capture(self, stream: int, work: Callable[[], object]) -> int:
        """What `work` puts on the stream, as an executable graph."""
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        with self._capturing(stream, graph):
            work()
        try:
            self._call("cudaGraphInstantiate", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cudaGraphDestroy", graph)
        assert executable.value is not None
        return executable.value

    def launch(self, executable: int, stream: int) -> None:
        self._call("cudaGraphLaunch", ctypes.c_void_p(executable), ctypes.c_void_p(stream))

    def forget(self, executable: int) -> None:
        """Frees an executable graph."""
        self._call("cudaGraphExecDestroy", ctypes.c_void_p(executable))


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def load_library() -> Any:
    """libcudart, wherever it lies.

    Raises:
        InputError: it isn't here.
    """
    found = sorted(Path("/usr/local/cuda/lib64").glob("libcudart.so*"))
    for name in (ctypes.util.find_library("cudart"), *map(str, found)):
        if name:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    raise InputError(f"libcudart is not here; on a Jetson `sudo apt install nvidia-jetpack`, or {NO_GPU}")


@cache
def open_cuda() -> Cuda:
    """One per process."""
    return Cuda(load_library())
