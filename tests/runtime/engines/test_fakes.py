"""The fakes of CUDA and TensorRT are strict: they refuse what the libraries are documented to refuse."""

from collections.abc import Callable

import numpy as np
import pytest

from edgeprune.base.errors import RunError
from edgeprune.bundle import Bundle
from edgeprune.runtime.engines.cuda import Cuda
from tests.runtime.engines.fake_cuda import FakeCudart
from tests.runtime.engines.jetson import ENGINE, Jetson, graphs


def test_the_fake_does_work_when_it_is_waited_for_and_not_before() -> None:
    cudart = FakeCudart()
    cuda = Cuda(cudart)
    stream, array = cuda.stream(), cuda.pinned((4,), np.uint8)
    address, back = cuda.allocate(4), cuda.pinned((4,), np.uint8)
    array[:], back[:] = 7, 0
    cuda.copy_in(address, array, stream)
    cuda.copy_out(back, address, stream)
    assert back.tolist() == [0] * 4
    cuda.synchronize(stream)
    assert back.tolist() == [7] * 4


def test_the_fake_refuses_what_a_capture_may_not_do() -> None:
    cuda = Cuda(FakeCudart())
    stream, address = cuda.stream(), cuda.allocate(4)
    forbidden: list[Callable[[], object]] = [
        lambda: cuda.allocate(4),
        lambda: cuda.synchronize(stream),
        lambda: cuda.copy_in(address, np.zeros(4, np.uint8), stream),  # pageable
    ]
    for work in forbidden:
        with pytest.raises(RunError, match="operation not permitted when stream is capturing"):
            cuda.capture(stream, work)
    cuda.synchronize(stream)  # no capture was left open


def test_the_fake_refuses_a_context_without_memory_or_addresses(jetson: Jetson, bundle: Bundle) -> None:
    ENGINE.prepare(graphs(bundle)[:1])
    trt, cuda = jetson.trt, Cuda(jetson.cudart)
    [plan] = jetson.cache.glob("*.plan")
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(plan.read_bytes())
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    stream = cuda.stream()
    assert not context.execute_async_v3(stream)
    memory = cuda.allocate(engine.device_memory_size_v2)
    context.set_device_memory(memory, engine.device_memory_size_v2)
    assert not context.execute_async_v3(stream)  # no addresses
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        assert not context.set_tensor_address(name, memory + 1)  # not aligned
        assert context.set_tensor_address(name, cuda.allocate(1 << 16))
    with pytest.raises(AssertionError):
        cuda.capture(stream, lambda: _assert(context.execute_async_v3(stream)))  # not before it has run once
    assert context.execute_async_v3(stream)


def _assert(ok: bool) -> None:
    assert ok
