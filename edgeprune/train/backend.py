"""Where a phase trains: on one device in one process, or in several that a launcher started (`train/many.py`)."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.base.errors import InputError
from edgeprune.train.heap import keep_freed_memory
from edgeprune.train.launcher import processes_launched

T = TypeVar("T")


class Backend(Protocol):
    """What the trainer asks of its processes and its device; it does not know how many there are.

    `str()` of one is for the log.

    Attributes:
        device: of this process.
        index: of this process; 0 is the main one, which validates, reports and writes.
        processes: how many there are.
    """

    device: torch.device
    index: int
    processes: int

    def prepare(self, model: nn.Module, optimiser: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Makes the model on the device ready to be trained.

        Returns:
            what is called in place of `model`, and stepped in place of `optimiser`. The weights stay in `model`.
        """
        ...

    def autocast(self) -> AbstractContextManager[None]:
        """The precision that a forward pass runs in."""
        ...

    def accumulating(self, net: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward pass of a part of a step. Gradients add up in each process until the last part."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Adds to every parameter its gradient of the mean of the processes' losses."""
        ...

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> None:
        """Scales gradients down to a norm of at most `norm`."""
        ...

    def gather(self, value: Tensor) -> Tensor:
        """A value of one step from every process, (P, ...), on the device; the host does not wait for it."""
        ...

    def from_main(self, make: Callable[[], T]) -> T:
        """What the main process makes, in every process. Hosts wait for its host; no host waits for a device."""
        ...

    def barrier(self) -> None:
        """Waits until every process is here."""
        ...


class OneProcess:
    """One process, one device.

    Args:
        device: as torch names it; `auto` is a GPU where there is one.
        bf16: whether forward passes run in it; `auto` where it pays.

    Raises:
        InputError: torch can't use the device.
    """

    index, processes = 0, 1

    def __init__(self, device: str, bf16: bool | Literal["auto"]):
        self.device = _find_device(device)
        self.bf16 = pays_bf16(self.device) if bf16 == "auto" else bf16

    def __str__(self) -> str:
        return f"{self.device}{' in bf16' if self.bf16 else ''}"

    def prepare(self, model: nn.Module, optimiser: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimiser

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def accumulating(self, net: nn.Module, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, norm)

    def gather(self, value: Tensor) -> Tensor:
        return value[None]

    def from_main(self, make: Callable[[], T]) -> T:
        return make()

    def barrier(self) -> None:
        return


def make_backend(device: str, bf16: bool | Literal["auto"]) -> Backend:
    """The backend of as many processes as a launcher (`torchrun`, `accelerate launch`) started.

    Raises:
        InputError: the device can't be used.
    """
    if processes_launched() == 1:
        backend: Backend = OneProcess(device, bf16)
    else:
        from edgeprune.train.many import ManyProcesses  # accelerate takes a second or two

        backend = ManyProcesses(device, bf16)
    if backend.device.type == "cpu":
        keep_freed_memory()
    return backend


def _find_device(name: str) -> torch.device:
    if name != "auto":
        try:
            return torch.zeros(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {name!r} can't be used ({reason}); try `device: cpu`") from None
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pays_bf16(device: torch.device) -> bool:
    """bf16 pays where the machine multiplies in it: half the step time on a CPU with AVX-512 bf16, slower without."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())
