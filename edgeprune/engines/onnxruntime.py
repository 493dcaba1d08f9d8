"""ONNX Runtime on the CPU. State between trunk and tail stays in its own tensors (OrtValue, IOBinding)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.bundle import Bundle
from edgeprune.engines.engine import UInt8
from edgeprune.errors import InputError, choose

NAME = "onnxruntime"
PROVIDER = "CPUExecutionProvider"
# The first run allocates its memory; two more let caches and clocks settle.
WARM_UP_RUNS = 3

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

FRAME, COUNT, LABELS = "frame", "count", "labels"
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
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"this engine needs ONNX Runtime, which cannot be imported ({error}); pip install onnxruntime"
        ) from error
    return onnxruntime


def open(bundle: Bundle, precision: str, buckets: Sequence[str] | None = None, threads: int = 2) -> "OrtSession":
    """See `Engine.open`."""
    return OrtSession(bundle, precision, buckets, threads)


def open_graph(path: Path, threads: int = 2) -> "OrtGraph":
    """See `Engine.open_graph`."""
    return OrtGraph(path, threads)


def open_session(path: Path, threads: int) -> Any:
    """An `onnxruntime.InferenceSession`, all graph optimizations on.

    Raises:
        InputError: the library is missing, or it can't read the file.
    """
    library = load_onnxruntime()
    options = library.SessionOptions()
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # errors are raised; on standard error they would be said twice
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for key, value in THREADING.items():
        options.add_session_config_entry(key, value)
    try:
        return library.InferenceSession(str(path), options, providers=[PROVIDER])
    except Exception as error:  # its own exceptions share no base but this one
        reason = " ".join(str(error).split())
        raise InputError(
            f"{NAME} {library.__version__} can't read {path} ({reason[:300]}); copy or build the bundle again"
        ) from error


class BoundGraph:
    """A session whose inputs and outputs are tied to tensors once, so that running it copies nothing.

    Attributes:
        outputs: the OrtValue of every output, by name; each run overwrites them.
    """

    def __init__(self, path: Path, threads: int, state: dict[str, Any] | None = None):
        """`state` gives the OrtValues of the inputs; the input `frame` is bound anew at each run."""
        library = load_onnxruntime()
        self.session = open_session(path, threads)
        self.outputs: dict[str, Any] = {}
        self._binding = self.session.io_binding()
        for tensor in self.session.get_inputs():
            if tensor.name != FRAME:
                self._binding.bind_ortvalue_input(tensor.name, choose(state or {}, tensor.name, f"input of {path}:"))
        for tensor in self.session.get_outputs():
            value = library.OrtValue.ortvalue_from_shape_and_type(tensor.shape, NUMPY_TYPES[tensor.type])
            self.outputs[tensor.name] = value
            self._binding.bind_ortvalue_output(tensor.name, value)

    def run(self, frame_HW3: UInt8 | None = None) -> None:
        """Runs the graph; `outputs` hold the result."""
        if frame_HW3 is not None:
            self._binding.bind_cpu_input(FRAME, frame_HW3)
        self.session.run_with_iobinding(self._binding)

    def labels(self) -> UInt8:
        """A copy of the output `labels`: what an OrtValue gives as numpy is its own memory (1.31) or a copy (1.23)."""
        label_HW: UInt8 = np.array(self.outputs[LABELS].numpy())
        return label_HW

    def frame_shape(self) -> tuple[int, ...]:
        """(H, W, 3) of the input `frame`."""
        return next(tuple(tensor.shape) for tensor in self.session.get_inputs() if tensor.name == FRAME)


def describe(session: Any, threads: int) -> dict[str, Any]:
    """Which engine, and where it really runs: it falls back to another provider without a word."""
    return {
        "engine": NAME,
        "version": load_onnxruntime().__version__,
        "provider": session.get_providers()[0],
        "provider_asked": PROVIDER,
        "threads": threads,
        "thread_policy": ", ".join(f"{key}={value}" for key, value in THREADING.items()),
        "warm_up": f"{WARM_UP_RUNS} runs of each graph before the first frame",
    }


class OrtSession:
    """See `Session`. The tails read the trunk's output tensors where they lie."""

    def __init__(self, bundle: Bundle, precision: str, buckets: Sequence[str] | None, threads: int):
        graphs = bundle.graphs(precision)
        opened = [bundle.bucket(name).name for name in buckets] if buckets is not None else None
        self._precision, self._threads = precision, threads
        self._tokens = bundle.manifest.tokens
        self._trunk = BoundGraph(bundle.path(graphs.trunk), threads)
        self._tails: dict[str, BoundGraph] = {}
        if graphs.tails:
            for name in opened or graphs.tails:
                path = bundle.path(choose(graphs.tails, name, "bucket"))
                self._tails[name] = BoundGraph(path, threads, self._trunk.outputs)
        else:  # nothing is gated: the trunk is the whole network
            self._tails[bundle.manifest.buckets[-1].name] = self._trunk
        grey_HW3 = np.full(self._trunk.frame_shape(), 128, np.uint8)
        for _ in range(WARM_UP_RUNS):
            self.start(grey_HW3)
            for name in self._tails:
                self.finish(name)

    def start(self, frame_HW3: UInt8) -> int:
        self._trunk.run(frame_HW3)
        return int(self._trunk.outputs[COUNT].numpy()) if COUNT in self._trunk.outputs else self._tokens

    def finish(self, bucket: str) -> UInt8:
        tail = choose(self._tails, bucket, "bucket")
        if tail is not self._trunk:
            tail.run()
        return tail.labels()

    def describe(self) -> dict[str, Any]:
        return describe(self._trunk.session, self._threads) | {"precision": self._precision}

    def close(self) -> None:
        self._tails.clear()
        del self._trunk


class OrtGraph:
    """See `Graph`."""

    def __init__(self, path: Path, threads: int):
        if not path.is_file():
            raise InputError(f"graph {path} is not there; build it with `edgeprune build --precision fp32`")
        self._threads = threads
        self._graph = BoundGraph(path, threads)
        grey_HW3 = np.full(self._graph.frame_shape(), 128, np.uint8)
        for _ in range(WARM_UP_RUNS):
            self(grey_HW3)

    def __call__(self, frame_HW3: UInt8) -> UInt8:
        self._graph.run(frame_HW3)
        return self._graph.labels()

    def describe(self) -> dict[str, Any]:
        return describe(self._graph.session, self._threads)

    def close(self) -> None:
        del self._graph
