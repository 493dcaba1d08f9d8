"""Tensors in a device's memory, which plans of TensorRT read and write."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from edgeprune.bundle.memory import StateTensor
from edgeprune.runtime.engines.cuda import Array
from edgeprune.runtime.engines.trt_runtime import Runtime

# tensorrt.DataType by name
NUMPY_TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor in device memory, and the page-locked array that it is copied from or to."""

    address: int
    host: Array


def hold_zeros(runtime: Runtime, tensors: Sequence[StateTensor], held: ExitStack) -> Mapping[str, DeviceTensor]:
    """Tensors of zeros by name, until `held` is closed.

    Raises:
        RunError: there is no memory for them.
    """
    kept = {}
    for tensor in tensors:
        address = runtime.cuda.allocate(tensor.nbytes)
        held.callback(runtime.cuda.free, address)
        zeros = np.zeros(tensor.shape, tensor.type)
        with runtime.lock:
            runtime.cuda.copy_in(address, zeros, runtime.stream)
            runtime.cuda.synchronize(runtime.stream)
        kept[tensor.name] = DeviceTensor(address, zeros)
    return kept
