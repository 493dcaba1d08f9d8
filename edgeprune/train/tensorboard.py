"""TensorBoard: a phase's history and its picture as event files, each phase a run of its own under `<out>/tensorboard`.

What the histories hold stays the truth (`metrics.csv`); these are for watching. Needs the tensorboard package, an extra.

Shapes: H W pixels.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError
from edgeprune.train.phase_run import PhaseRun

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
NOT_VALUES = ("step", "rolled_back_from")  # of a row: where it is, and not what was measured


def check_tensorboard() -> None:
    """Refuses to begin a training whose events can't be written.

    Raises:
        InputError: the package is missing.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise InputError(
            "tensorboard: true needs the package; install it with: pip install 'edgeprune[tensorboard]', or set tensorboard: "
            "false"
        ) from None


class EventFile:
    """The events of a phase: nothing before the first row, and nothing at all where the recipe asks for none.

    Args:
        step: the phase begins or goes on here; events of a later step, from before it was stopped or rolled back, are void.
    """

    def __init__(self, run: PhaseRun, step: int):
        self._run, self._step = run, step
        self._writer: SummaryWriter | None = None

    def add(self, row: Mapping[str, float]) -> None:
        """A row of the history: a point for each of its values."""
        if not self._run.recipe.tensorboard:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(_folder_of(self._run), purge_step=self._step + 1)
        for key, value in row.items():
            if key not in NOT_VALUES:
                self._writer.add_scalar(key, value, int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def add_picture(run: PhaseRun, picture_HW3: npt.NDArray[np.uint8]) -> None:
    """What a phase that is done has learnt, where the recipe asks for events."""
    if not run.recipe.tensorboard:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(_folder_of(run)) as writer:
        writer.add_image("samples", picture_HW3, run.phase.steps, dataformats="HWC")


def _folder_of(run: PhaseRun) -> str:
    return str(run.out / FOLDER / run.name)
