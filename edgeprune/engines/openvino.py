"""OpenVINO on the CPU, on the bundle's own ONNX files. State between trunk and tail stays in arrays that both use.

`OpenVino("f32")` computes what the graph says. `OpenVino("bf16")` lets OpenVINO do in bfloat16 what is not INT8: the
attention products above all, which cost most once the linears are INT8. It needs a CPU with AVX-512 bf16 or AMX.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeprune.bundle import Bundle
from edgeprune.engines.engine import UInt8
from edgeprune.errors import InputError, choose

NAME = "openvino"
DEVICE = "CPU"
WARM_UP_RUNS = 3
FRAME, COUNT, LABELS = "frame", "count", "labels"
Array = npt.NDArray[Any]


def load_openvino() -> Any:
    """The library.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise InputError(
            f"this engine needs OpenVINO, which cannot be imported ({error}); pip install 'edgeprune[openvino]'"
        ) from error
    return openvino


class OpenVino:
    """See `Engine`.

    Args:
        hint: OpenVINO's inference precision, `f32` or `bf16`.
    """

    def __init__(self, hint: str):
        self.hint = hint
        self.name = NAME if hint == "f32" else f"{NAME}-{hint}"

    def open(
        self, bundle: Bundle, precision: str, buckets: Sequence[str] | None = None, threads: int = 2
    ) -> "OpenVinoSession":
        """See `Engine.open`."""
        return OpenVinoSession(self, bundle, precision, buckets, threads)

    def open_graph(self, path: Path, threads: int = 2) -> "OpenVinoGraph":
        """See `Engine.open_graph`."""
        return OpenVinoGraph(self, path, threads)

    def compile(self, path: Path, threads: int) -> Any:
        """A compiled model.

        Raises:
            InputError: the library is missing, it can't read the file, or this CPU has no such precision.
        """
        library = load_openvino()
        if not path.is_file():
            raise InputError(f"graph {path} is not there; build it with `edgeprune build --precision fp32`")
        core = library.Core()
        able = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        if self.hint == "bf16" and "BF16" not in able:
            raise InputError(
                f"{self.name}: this CPU does not compute in bf16 (OpenVINO finds {', '.join(able)}); use engine {NAME}"
            )
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": self.hint,
        }
        try:
            return core.compile_model(str(path), DEVICE, settings)
        except Exception as error:  # its own exceptions share no base but this one
            reason = " ".join(str(error).split())
            raise InputError(
                f"{NAME} {library.__version__} can't read {path} ({reason[:300]}); copy or build the bundle again"
            ) from error

    def describe(self, compiled: Any, threads: int) -> dict[str, Any]:
        """Which engine, and where and in what precision it really runs."""
        devices = compiled.get_property("EXECUTION_DEVICES")
        return {
            "engine": self.name,
            "version": load_openvino().__version__,
            "provider": ", ".join(devices) if isinstance(devices, list) else str(devices),
            "provider_asked": DEVICE,
            "inference_precision": str(compiled.get_property("INFERENCE_PRECISION_HINT")),
            "threads": threads,
            "thread_policy": "one stream; its threads sleep between two runs",
            "warm_up": f"{WARM_UP_RUNS} runs of each graph before the first frame",
        }


class Request:
    """An inference request whose tensors are arrays of ours, tied to it once: running it copies nothing.

    Attributes:
        outputs: the array of every output, by name; each run overwrites them.
    """

    def __init__(self, compiled: Any, state: dict[str, Array] | None = None):
        """`state` gives the arrays of the inputs; the input `frame` is set anew at each run."""
        self._request = compiled.create_infer_request()
        self._tensor = load_openvino().Tensor
        self.frame_shape: tuple[int, ...] = ()
        self.outputs: dict[str, Array] = {}
        for port in compiled.inputs:
            if FRAME in port.get_names():
                self.frame_shape = tuple(port.shape)
            else:
                array = choose(state or {}, port.get_any_name(), "input of a tail:")
                # its optimizer may drop a Reshape before an output, but not the order of its elements
                self._request.set_tensor(port, self._tensor(array.reshape(port.shape), shared_memory=True))
        for port in compiled.outputs:
            array = np.zeros(port.shape, port.element_type.to_dtype())
            self._request.set_tensor(port, self._tensor(array, shared_memory=True))
            self.outputs |= dict.fromkeys(port.get_names(), array)

    def run(self, frame_HW3: UInt8 | None = None) -> None:
        """Runs the graph; `outputs` hold the result."""
        if frame_HW3 is not None:
            frame_HW3 = np.ascontiguousarray(frame_HW3)  # it is read where it lies
            self._request.set_tensor(FRAME, self._tensor(frame_HW3, shared_memory=True))
        self._request.infer()

    def labels(self) -> UInt8:
        """A copy of the output `labels`."""
        label_HW: UInt8 = self.outputs[LABELS].copy()
        return label_HW


class OpenVinoSession:
    """See `Session`. The tails read the trunk's output tensors where they lie."""

    def __init__(self, engine: OpenVino, bundle: Bundle, precision: str, buckets: Sequence[str] | None, threads: int):
        graphs = bundle.graphs(precision)
        opened = [bundle.bucket(name).name for name in buckets] if buckets is not None else None
        self._engine, self._precision, self._threads = engine, precision, threads
        self._tokens = bundle.manifest.tokens
        self._compiled = engine.compile(bundle.path(graphs.trunk), threads)
        self._trunk = Request(self._compiled)
        self._tails: dict[str, Request] = {}
        if graphs.tails:
            for name in opened or graphs.tails:
                path = bundle.path(choose(graphs.tails, name, "bucket"))
                self._tails[name] = Request(engine.compile(path, threads), self._trunk.outputs)
        else:  # nothing is gated: the trunk is the whole network
            self._tails[bundle.manifest.buckets[-1].name] = self._trunk
        grey_HW3 = np.full(self._trunk.frame_shape, 128, np.uint8)
        for _ in range(WARM_UP_RUNS):
            self.start(grey_HW3)
            for name in self._tails:
                self.finish(name)

    def start(self, frame_HW3: UInt8) -> int:
        self._trunk.run(frame_HW3)
        return int(self._trunk.outputs[COUNT]) if COUNT in self._trunk.outputs else self._tokens

    def finish(self, bucket: str) -> UInt8:
        tail = choose(self._tails, bucket, "bucket")
        if tail is not self._trunk:
            tail.run()
        return tail.labels()

    def describe(self) -> dict[str, Any]:
        return self._engine.describe(self._compiled, self._threads) | {"precision": self._precision}

    def close(self) -> None:
        self._tails.clear()
        del self._trunk, self._compiled


class OpenVinoGraph:
    """See `Graph`."""

    def __init__(self, engine: OpenVino, path: Path, threads: int):
        self._engine, self._threads = engine, threads
        self._compiled = engine.compile(path, threads)
        self._request = Request(self._compiled)
        grey_HW3 = np.full(self._request.frame_shape, 128, np.uint8)
        for _ in range(WARM_UP_RUNS):
            self(grey_HW3)

    def __call__(self, frame_HW3: UInt8) -> UInt8:
        self._request.run(frame_HW3)
        return self._request.labels()

    def describe(self) -> dict[str, Any]:
        return self._engine.describe(self._compiled, self._threads)

    def close(self) -> None:
        del self._request, self._compiled
