"""Several processes, each with a device of its own, by Hugging Face's accelerate."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from edgeprune.base.errors import InputError
from edgeprune.train.backend import pays_bf16
from edgeprune.train.batch_norm import norm_over_processes

T = TypeVar("T")

# The others wait while the main process looks at the data, validates and calibrates. One that ends is noticed by the launcher,
# which ends them all; a limit would only end a long validation.
PATIENCE = timedelta(days=7)
TYPES = (DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


class ManyProcesses:
    """One of the processes that a launcher started, on the device that is its own.

    Args:
        device: `cpu`, or `auto` or `cuda` for a GPU each.
        bf16: see `OneProcess`.

    Raises:
        InputError: the device is one for all, or accelerate is configured for something else than data parallelism.
    """

    def __init__(self, device: str, bf16: bool | Literal["auto"]):
        if device not in ("auto", "cpu", "cuda"):
            raise InputError(f"device {device!r} can't be that of every process; expected auto, cpu or cuda")
        self._accelerator = Accelerator(
            cpu=device == "cpu" or not torch.cuda.is_available(),
            mixed_precision="no",  # `autocast` sees to it
            # buffers are equal everywhere by themselves; what the main process alone lays out to validate is not broadcast
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=PATIENCE),
                DistributedDataParallelKwargs(broadcast_buffers=False),
            ],
        )
        if (found := self._accelerator.distributed_type) not in TYPES:
            raise InputError(
                f"accelerate is configured for {found.value}, edgeprune trains with DDP; see `accelerate config`"
            )
        self._hosts = dist.new_group(backend="gloo", timeout=PATIENCE)
        self.device = self._accelerator.device
        self.index, self.processes = self._accelerator.process_index, self._accelerator.num_processes
        self.bf16 = pays_bf16(self.device) if bf16 == "auto" else bf16

    def __str__(self) -> str:
        return f"{self.processes} processes of {self.device.type}{' in bf16' if self.bf16 else ''}"

    def prepare(self, model: nn.Module, optimiser: Optimizer) -> tuple[nn.Module, Optimizer]:
        self._accelerator.free_memory()  # of the phase before
        norm_over_processes(model)
        return self._accelerator.prepare_model(model), optimiser

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def accumulating(self, net: nn.Module, last: bool) -> AbstractContextManager[None]:
        assert isinstance(net, DistributedDataParallel)
        return nullcontext() if last else net.no_sync()

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> None:
        self._accelerator.clip_grad_norm_(parameters, norm)

    def gather(self, value: Tensor) -> Tensor:
        gathered: Tensor = self._accelerator.gather(value[None])
        return gathered

    def from_main(self, make: Callable[[], T]) -> T:
        made: list[T | None] = [make() if self.index == 0 else None]
        dist.broadcast_object_list(made, src=0, group=self._hosts)
        return made[0]  # type: ignore[return-value]

    def barrier(self) -> None:
        dist.barrier(group=self._hosts)
