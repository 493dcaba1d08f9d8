"""libcudart in host memory, for `edgeprune.runtime.engines.cuda`: addresses are real ones, streams are lists of work.

Rules it holds to (CUDA Runtime API documentation, the module in brackets):
- Work on a stream is done when the stream is synchronized, not before: here never earlier. [Stream Management]
- While a stream is captured all work on it is recorded, not done, whichever thread puts it there, a graph that is launched
  too; waiting for it then is error 900. [Stream Management, cudaStreamBeginCapture; Graph Management,
  cudaErrorStreamCaptureUnsupported]
- Allocating is error 900 in the thread that captures, and in no other. [Stream Management, cudaStreamCaptureModeThreadLocal of
  cudaThreadExchangeStreamCaptureMode]
- A capture may not touch pageable memory. [Memory Management, cudaMemcpyAsync; CUDA programming guide, CUDA Graphs]
- Freed or unknown memory, of the device or page-locked, is error 1. [cudaErrorInvalidValue; Memory Management, cudaFree,
  cudaFreeHost]
- Without a GPU counting them is error 100. [cudaErrorNoDevice]
- Free memory is what nobody took, libraries included. [Memory Management, cudaMemGetInfo]
"""

import ctypes
import threading
from collections.abc import Callable
from typing import Any

ALIGNMENT = 256
INVALID, CAPTURE_UNSUPPORTED, OUT_OF_MEMORY, NO_DEVICE = 1, 900, 2, 100
REASONS = {
    NO_DEVICE: b"no CUDA-capable device is detected",
    INVALID: b"invalid argument",
    OUT_OF_MEMORY: b"out of memory",
    CAPTURE_UNSUPPORTED: b"operation not permitted when stream is capturing",
}
Work = Callable[[], None]


class _ErrorString:
    """As a ctypes function: has a `restype` that can be set."""

    restype: Any = ctypes.c_int

    def __call__(self, code: Any) -> Any:
        return REASONS.get(code.value) if self.restype is ctypes.c_char_p else 0


class FakeCudart:
    """The functions that `Cuda` calls, with arguments as ctypes passes them."""

    def __init__(self, version: int = 12060, devices: int = 1, memory: int = 1 << 30):
        self.version, self.devices, self.memory = version, devices, memory
        # an Orin Nano: 8 multiprocessors, sm_87; its GPU has no share in this machine's memory, so it counts as discrete
        self.attributes = {16: 8, 18: 0, 75: 8, 76: 7}
        self.cudaGetErrorString = _ErrorString()
        self.device: dict[int, Any] = {}
        self.host: dict[int, Any] = {}
        self.of_library: dict[int, int] = {}  # bytes that TensorRT holds for an engine's weights
        self.pending: dict[int, list[Work]] = {}
        self.recording: dict[int, list[Work]] = {}
        self.capturing: dict[int, int] = {}  # the thread that captures a stream
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.copies: list[tuple[str, int]] = []  # direction and bytes of those that were done
        self.launches = 0
        self._next = 1000

    def _handle(self) -> int:
        self._next += 1
        return self._next

    def enqueue(self, stream: int, work: Work) -> bool:
        """Where a library puts kernels: TensorRT in the fake."""
        if stream not in self.pending:
            return False
        (self.recording[stream] if stream in self.recording else self.pending[stream]).append(work)
        return True

    def size_at(self, address: int, memory: dict[int, Any]) -> int:
        """How many bytes lie from an address to the end of its block; 0 where it is in none."""
        for begin, (_, size) in memory.items():
            if begin <= address < begin + size:
                return begin + size - address
        return 0

    def _block(self, size: int) -> tuple[int, Any]:
        block = ctypes.create_string_buffer(size + ALIGNMENT)
        return (ctypes.addressof(block) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT, block

    @property
    def free(self) -> int:
        return self.memory - sum(taken for _, taken in self.device.values()) - sum(self.of_library.values())

    def live(self) -> dict[str, int]:
        """How many things there are that have to be given back."""
        kinds = {"device": self.device, "host": self.host, "graphs": self.graphs, "executables": self.executables}
        return {name: len(things) for name, things in kinds.items()} | {"engines": len(self.of_library)}

    # ------------------------------------------------------------------------------------------- the library's names

    def cudaRuntimeGetVersion(self, out: Any) -> int:
        out._obj.value = self.version
        return 0

    def cudaGetDeviceCount(self, out: Any) -> int:
        out._obj.value = self.devices
        return 0 if self.devices else NO_DEVICE

    def cudaMemGetInfo(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = self.free, self.memory
        return 0

    def cudaDeviceGetAttribute(self, out: Any, attribute: Any, device: Any) -> int:
        if device.value >= self.devices or attribute.value not in self.attributes:
            return INVALID
        out._obj.value = self.attributes[attribute.value]
        return 0

    def cudaMalloc(self, out: Any, size: Any) -> int:
        if threading.get_ident() in self.capturing.values():
            return CAPTURE_UNSUPPORTED
        if size.value > self.free:
            return OUT_OF_MEMORY
        out._obj.value, block = self._block(size.value)
        self.device[out._obj.value] = (block, size.value)
        return 0

    def cudaFree(self, address: Any) -> int:
        return 0 if self.device.pop(address.value, None) else INVALID

    def cudaHostAlloc(self, out: Any, size: Any, flags: Any) -> int:
        if threading.get_ident() in self.capturing.values():
            return CAPTURE_UNSUPPORTED
        out._obj.value, block = self._block(size.value)
        self.host[out._obj.value] = (block, size.value)
        return 0

    def cudaFreeHost(self, address: Any) -> int:
        return 0 if self.host.pop(address.value, None) else INVALID

    def cudaStreamCreateWithFlags(self, out: Any, flags: Any) -> int:
        out._obj.value = self._handle()
        self.pending[out._obj.value] = []
        return 0

    def cudaStreamSynchronize(self, stream: Any) -> int:
        if self.recording:
            return CAPTURE_UNSUPPORTED
        if stream.value not in self.pending:
            return INVALID
        work, self.pending[stream.value] = self.pending[stream.value], []
        for each in work:
            each()
        return 0

    def cudaMemcpyAsync(self, to: Any, source: Any, size: Any, kind: Any, stream: Any) -> int:
        inward = kind.value == 1
        on_device, on_host = (to, source) if inward else (source, to)
        if self.size_at(on_device.value, self.device) < size.value:
            return INVALID
        if stream.value in self.recording and self.size_at(on_host.value, self.host) < size.value:
            return CAPTURE_UNSUPPORTED
        arguments = to.value, source.value, size.value

        def work() -> None:
            ctypes.memmove(*arguments)
            self.copies.append(("in" if inward else "out", arguments[2]))

        return 0 if self.enqueue(stream.value, work) else INVALID

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> int:
        if stream.value not in self.pending or stream.value in self.recording:
            return INVALID
        self.recording[stream.value], self.capturing[stream.value] = [], threading.get_ident()
        return 0

    def cudaStreamEndCapture(self, stream: Any, out: Any) -> int:
        if stream.value not in self.recording:
            return INVALID
        out._obj.value = self._handle()
        self.graphs[out._obj.value] = self.recording.pop(stream.value)
        del self.capturing[stream.value]
        return 0

    def cudaGraphInstantiate(self, out: Any, graph: Any, flags: Any) -> int:
        if graph.value not in self.graphs:
            return INVALID
        out._obj.value = self._handle()
        self.executables[out._obj.value] = list(self.graphs[graph.value])
        return 0

    def cudaGraphDestroy(self, graph: Any) -> int:
        return INVALID if self.graphs.pop(graph.value, None) is None else 0

    def cudaGraphLaunch(self, executable: Any, stream: Any) -> int:
        if executable.value not in self.executables or stream.value not in self.pending:
            return INVALID
        self.launches += 1
        for work in self.executables[executable.value]:
            self.enqueue(stream.value, work)
        return 0

    def cudaGraphExecDestroy(self, executable: Any) -> int:
        return INVALID if self.executables.pop(executable.value, None) is None else 0
