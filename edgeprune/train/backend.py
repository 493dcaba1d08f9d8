"""Where a phase trains: on one device in one process. A `Backend` of several would be another class here."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeprune.base.errors import InputError


class Backend(Protocol):
    """What the trainer asks of its processes and its device; it does not know how many there are.

    `str()` of one is for the log.

    Attributes:
        device: of this process.
        is_main: whether this process is the one that validates, reports and writes.
    """

    device: torch.device
    is_main: bool

    def prepare(self, model: nn.Module, optimiser: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Makes the model on the device ready to be trained.

        Returns:
            what is called in place of `model`, and stepped in place of `optimiser`. The weights stay in `model`.
        """
        ...

    def autocast(self) -> AbstractContextManager[None]:
        """The precision that a forward pass runs in."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Gives every parameter its gradient over the batch of all processes."""
        ...

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> None:
        """Scales gradients down to a norm of at most `norm`."""
        ...

    def gather(self, value: Tensor) -> Tensor:
        """A value of one step from every process, (P, ...), on the device; the host does not wait for it."""
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

    is_main = True

    def __init__(self, device: str, bf16: bool | Literal["auto"]):
        self.device = _find_device(device)
        self.bf16 = _pays_bf16(self.device) if bf16 == "auto" else bf16

    def __str__(self) -> str:
        return f"{self.device}{' in bf16' if self.bf16 else ''}"

    def prepare(self, model: nn.Module, optimiser: Optimizer) -> tuple[nn.Module, Optimizer]:
        return model, optimiser

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip(self, parameters: Iterable[nn.Parameter], norm: float) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, norm)

    def gather(self, value: Tensor) -> Tensor:
        return value[None]

    def barrier(self) -> None:
        return


def _find_device(name: str) -> torch.device:
    if name != "auto":
        try:
            return torch.zeros(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {name!r} can't be used ({reason}); try `device: cpu`") from None
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _pays_bf16(device: torch.device) -> bool:
    """bf16 pays where the machine multiplies in it: half the step time on a CPU with AVX-512 bf16, slower without."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported())
