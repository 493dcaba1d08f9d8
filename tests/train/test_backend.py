"""The backend of one process."""

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.train.backend import Backend, OneProcess


def test_one_process_trains_as_torch_does() -> None:
    backend: Backend = OneProcess("cpu", True)
    layer = torch.nn.Linear(2, 1, bias=False)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    assert backend.prepare(layer, optimiser) == (layer, optimiser) and (backend.index, backend.processes) == (0, 1)
    with backend.autocast():
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
    backend.backward((layer.weight * torch.tensor([3.0, 4.0])).sum())
    assert layer.weight.grad is not None
    backend.clip(layer.parameters(), 1.0)
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.6, 0.8]]))
    assert backend.gather(torch.tensor(2.0)).tolist() == [2.0]
    backend.barrier()


def test_a_backend_says_where_it_trains() -> None:
    assert str(OneProcess("cpu", False)) == "cpu"
    assert str(OneProcess("cpu", True)) == "cpu in bf16"


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="device 'gpu' can't be used .*try `device: cpu`"):
        OneProcess("gpu", "auto")
