"""What this machine does at best: multiply-adds of a GEMM in ONNX Runtime, and copying."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.runtime.engines.onnxruntime import open_session

GEMM_SIDE = 1024
COPY_BYTES = 1 << 27


@dataclass(frozen=True)
class Peaks:
    """Of this machine at so many threads: 1e9 multiply-adds per second, 1e9 bytes per second read and written."""

    fp32_gmacs: float
    int8_gmacs: float
    copy_gbytes: float


def measure_peaks(threads: int) -> Peaks:
    """The best of several GEMMs of 1024 x 1024 x 1024 in ONNX Runtime, and of copies of 128 MiB.

    Raises:
        InputError: the onnx package is missing, which writes the GEMMs.
    """
    # x86 multiplies uint8 by int8, and signed activations are turned into unsigned ones when a graph is opened; ARM has
    # both. A GEMM alone is not turned, so the faster of the two is the machine's.
    int8 = max(_int8_peak(threads, kind) for kind in (np.uint8, np.int8))
    return Peaks(_fp32_peak(threads), int8, _copy_peak(threads))


def _fp32_peak(threads: int) -> float:
    random = np.random.default_rng(0)
    x, w = (random.normal(size=(GEMM_SIDE, GEMM_SIDE)).astype(np.float32) for _ in range(2))
    return _gemm_peak(threads, "MatMul", x, {"w": w})


def _int8_peak(threads: int, kind: type[np.integer[Any]]) -> float:
    random = np.random.default_rng(0)
    x = random.integers(0, 127, (GEMM_SIDE, GEMM_SIDE)).astype(kind)
    constants = {
        "x_step": np.float32(1),
        "x_zero": kind(0),
        "w": random.integers(-127, 128, x.shape).astype(np.int8),
        "w_step": np.ones(GEMM_SIDE, np.float32),
        "w_zero": np.zeros(GEMM_SIDE, np.int8),
    }
    return _gemm_peak(threads, "QGemm", x, constants, "com.microsoft")


def _gemm_peak(threads: int, operator: str, x: np.ndarray, constants: Mapping[str, Any], domain: str = "") -> float:
    """1e9 multiply-adds per second of one operator on `x` and constants, with a float result."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise InputError(f"the roofline's peaks need the onnx package ({error}); pip install onnx") from error
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *constants], ["y"], domain=domain)],
        "peak",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = open_session(proto.SerializeToString(), threads)
    return x.shape[0] ** 3 / 1e9 / _best_s(lambda: session.run(None, {"x": x}))


def _copy_peak(threads: int) -> float:
    """Bytes read and bytes written, per second, with every thread on a part of its own."""
    parts = [
        (np.ones(COPY_BYTES // threads, np.uint8), np.empty(COPY_BYTES // threads, np.uint8)) for _ in range(threads)
    ]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * COPY_BYTES / 1e9 / _best_s(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)))


def _best_s(run: Callable[[], object]) -> float:
    times_s = []
    for _ in range(8):
        start = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - start)
    return min(times_s)
