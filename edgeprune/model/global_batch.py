"""The batch of all processes: sums over it, through which gradients pass.

Several processes each hold an equal share of a batch. What is a mean over images (a cross-entropy of all pixels) each may
take over its own share. What is not (a ratio of sums, the square of a mean, a norm) is taken from sums over all of them, and
so has one value everywhere: S = s_1 + ... + s_P, L = f(S).

Why the gradients are right: the backward pass of each process reaches its copy of S with dL/dS, and the sum's own backward adds
these up over the P processes, so each share s_p is handed P dL/dS. DistributedDataParallel then takes the mean of the
parameters' gradients, (1/P) sum_p (P dL/dS) ds_p/dw, which is dL/dw. Of what is a mean over images, the mean of the gradients
is the gradient of the mean. So the two may be added in one loss.

Where no gradients are recorded (validation and calibration, which the main process does alone) a process has no others.

Shapes: B images of this process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class _Sum(torch.autograd.Function):
    """`torch.distributed.nn.functional.all_reduce`, which torch 2.13 declares deprecated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


def processes() -> int:
    """How many share the batch."""
    if not (dist.is_available() and dist.is_initialized() and torch.is_grad_enabled()):
        return 1
    return dist.get_world_size()


def own_place() -> int:
    """Which share of the batch is this process's: 0 for the first."""
    return dist.get_rank() if processes() > 1 else 0


@dataclass
class _Part:
    index: int = 0
    parts: int = 1


_part = _Part()


@contextmanager
def part_of_step(index: int, parts: int) -> Iterator[None]:
    """Says which of the parts of a step is computed, where a batch is taken in several (`accumulate`)."""
    before = _part.index, _part.parts
    _part.index, _part.parts = index, parts
    try:
        yield
    finally:
        _part.index, _part.parts = before


class Place(NamedTuple):
    """Where the images that are computed now lie among those of a whole step, in the order of `train.batches.OwnParts`.

    Attributes:
        begin: the number of this process's first.
        everywhere: how many there are, of all parts and processes.
        part: the numbers of this part's, of all processes.
    """

    begin: int
    everywhere: int
    part: range


def place_in_step(images: int) -> Place:
    """
    Args:
        images: that this process computes now; all parts of all processes have as many.
    """
    of_part = processes() * images
    part = range(_part.index * of_part, (_part.index + 1) * of_part)
    return Place(part.start + own_place() * images, _part.parts * of_part, part)


def batch_sum(x: Tensor) -> Tensor:
    """The elementwise sum over the processes of an `x` that each of them has; `x` itself where there is one."""
    total: Tensor = _Sum.apply(x) if processes() > 1 else x
    return total


def batch_mean(x_B: Tensor) -> Tensor:
    """The mean of all values (B, ...) over the batch of all processes, of which some may hold none; 0 where none does."""
    total, count = _total(x_B)
    return total / count.clamp_min(1)


def squared_gap(x_B: Tensor, target: float) -> Tensor:
    """How far that mean is from a target, squared; 0 where no process holds any value."""
    total, count = _total(x_B)
    return (total / count.clamp_min(1) - target).square() * (count > 0)


def _total(x_B: Tensor) -> tuple[Tensor, Tensor]:
    total, count = batch_sum(torch.stack((x_B.sum(), x_B.new_full((), x_B.numel())))).unbind()
    return total, count
