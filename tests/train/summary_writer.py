"""A writer for TensorBoard that keeps what it is told.

Its rules are those of torch's page "torch.utils.tensorboard", SummaryWriter: `log_dir`, `purge_step` ("When logging crashes at
step T+X and restarts at step T, any events whose global_step larger or equal to T will be purged"), `add_scalar(tag,
scalar_value, global_step)`, `add_image(tag, img_tensor, global_step, dataformats)` of uint8 where values are 0 to 255.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

MODULE = "torch.utils.tensorboard"


class Writer:
    """A SummaryWriter. `events`: tag, value and step of all of them, by folder."""

    events: ClassVar[dict[str, list[tuple[str, Any, int]]]] = {}

    def __init__(self, log_dir: str, purge_step: int | None = None) -> None:
        of_folder = self.events.setdefault(log_dir, [])
        if purge_step is not None:
            of_folder[:] = [event for event in of_folder if event[2] < purge_step]
        self.own: list[tuple[str, Any, int]] = []
        self.folder, self.closed = of_folder, False

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert not self.closed and isinstance(scalar_value, int | float)
        self.own.append((tag, scalar_value, global_step))

    def add_image(self, tag: str, img_tensor: Any, global_step: int, *, dataformats: str = "CHW") -> None:
        assert img_tensor.dtype == np.uint8 and dataformats == "HWC" and img_tensor.shape[2] == 3
        self.own.append((tag, img_tensor, global_step))

    def flush(self) -> None:
        self.folder += self.own
        self.own = []

    def close(self) -> None:
        self.flush()
        self.closed = True

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def writing() -> Iterator[None]:
    """Meanwhile this is torch's."""
    module = ModuleType(MODULE)
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, MODULE, module)
        yield
