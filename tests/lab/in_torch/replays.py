"""What tests have in place of CUDA graphs and of a GPU's meter."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from edgeprune.runtime.meters import Energy


def leaves(outputs: Any) -> list[Tensor]:
    """The tensors of nested tuples and lists."""
    return [outputs] if isinstance(outputs, Tensor) else [leaf for each in outputs for leaf in leaves(each)]


def as_replays(step: Callable[[], Any]) -> Callable[[], Any]:
    """A CUDA graph's behaviour on a CPU: one set of outputs, which each replay writes again, whoever reads them."""
    outputs = step()

    def replay() -> Any:
        for old, new in zip(leaves(outputs), leaves(step()), strict=True):
            old.copy_(new)
        return outputs

    return replay


class TenWatts:
    """A meter of a GPU that draws 10 W while a frame runs, and 4 W between."""

    name = "fake"

    def __init__(self) -> None:
        self._joules = iter([4.0])

    def start(self) -> None: ...

    def watts(self) -> None: ...

    def stop(self) -> Energy:
        joules = next(self._joules, 10.0)
        return Energy("measured by a fake", {"gpu0": joules}, joules, ("gpu0",), 2, 1.0, None)
