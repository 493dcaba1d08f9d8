"""A recipe at a few steps a phase, in a folder that is thrown away: whether it runs to its end, how long a step takes and how
much memory, before hours are spent.

Each phase does what it will do in earnest, from reading to its checkpoint; only its steps, its validation and its calibration
are cut short.
"""

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgeprune.base.machine import peak_mb
from edgeprune.train.checks import with_all_before
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.phases import train
from edgeprune.train.recipe import Recipe
from edgeprune.train.trainer import Trainer

logger = logging.getLogger(__name__)

STEPS = 4  # the first two are slower: memory is taken, kernels are chosen
COUNTED = 2
CALIBRATED = 8


@dataclass(frozen=True)
class PhasePlan:
    """What a phase will take.

    Attributes:
        samples: that it draws from.
        step_s: a step's seconds, the mean of the last few of a dry run; reading included, validation not.
        minutes: all of its steps at that pace.
        peak_mb: the most memory that the process has held up to its end; on a GPU, of the GPU's.
        done: its checkpoint is there already.
    """

    phase: str
    kind: str
    steps: int
    batch: int
    samples: int
    starts_from: str
    step_s: float | None
    minutes: float | None
    peak_mb: float | None
    done: bool


class Timed(Trainer):
    """A trainer that notes when each step ended, and how it stood at the end."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.ended_s: list[float] = []
        self.peak_mb: float | None = None

    def _after_step(self) -> bool:
        if self.backend.device.type == "cuda":
            torch.cuda.synchronize()
        self.ended_s.append(time.monotonic())
        return super()._after_step()

    def train(self) -> None:
        super().train()
        cuda = self.backend.device.type == "cuda"
        self.peak_mb = torch.cuda.max_memory_allocated() / 1e6 if cuda else peak_mb()

    @property
    def step_s(self) -> float:
        """Seconds of one of the last steps."""
        last = self.ended_s[-COUNTED - 1 :]
        return (last[-1] - last[0]) / (len(last) - 1)


def dry_run(recipe: Recipe, out: Path, cache: Path | None, only: Sequence[str] = ()) -> list[PhasePlan]:
    """Measures each phase that is not done. A phase begins with what the dry run made of the phases that it needs.

    Args:
        out: where the recipe's checkpoints are to be; nothing is written there.
        cache: where rendered street scenes are kept.
        only: phases that were asked for.

    Raises:
        InputError, RunError: what a training in earnest would raise.
    """
    chosen = list(only) or list(recipe.phases)
    due = [name for name in chosen if not PhaseRun(recipe, name, out).is_done]
    made: list[Timed] = []

    def timed(*given: Any) -> Timed:
        made.append(Timed(*given))
        return made[-1]

    with tempfile.TemporaryDirectory(prefix="edgeprune-dry-run-") as folder:
        if due:
            train(_cut_short(recipe), Path(folder), cache, with_all_before(recipe, due), trainer=timed)
    measured = {trainer.run.name: trainer for trainer in made}
    return [_plan(recipe, name, measured.get(name) if name in due else None) for name in chosen]


def _cut_short(recipe: Recipe) -> Recipe:
    short = recipe.model_copy(deep=True)
    short.validation, short.checkpoint_seconds = None, 1e9
    for phase in short.phases.values():
        phase.frames = STEPS * phase.batch if phase.frames else 0
    if short.calibration is not None:
        short.calibration.frames = min(short.calibration.frames, CALIBRATED)
    return short


def _plan(recipe: Recipe, name: str, found: Timed | None) -> PhasePlan:
    phase = recipe.phases[name]
    step_s = found.step_s if found and len(found.ended_s) > 1 else None
    return PhasePlan(
        phase=name,
        kind=phase.kind,
        steps=phase.steps,
        batch=phase.batch,
        samples=sum(len(split) for split in found.splits) if found else 0,
        starts_from=recipe.start_of(name) or recipe.weights or "random weights",
        step_s=step_s,
        minutes=None if step_s is None else step_s * phase.steps / 60,
        peak_mb=found.peak_mb if found else None,
        done=found is None,
    )
